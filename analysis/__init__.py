"""Reading studies of codecbench: results, tables, statistics, figures, from a tracking store; trains nothing.

`load("STUDY")` reads a study, `load_codec("RUN")` a trained codec. `results` has its frames, `statistics`
compares, `tables` and `figures` show, `reports` writes pages and the kit of a paper.

The names below are what a notebook needs. Each is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.figures.catalogue import spectrograms, voronoi_slices, voronoi_tilings
    from analysis.figures.cells.animation import write_animation
    from analysis.figures.cells.grids import grids_of
    from analysis.figures.cells.lattices import lattice_figure, lattice_frame
    from analysis.figures.cells.motion import before_and_after_figure, movement_frame, pictures
    from analysis.figures.cells.voronoi import use_frame, voronoi_figure
    from analysis.figures.code_use import (
        histogram_figure,
        rank_figure,
        ranks,
        size_figure,
        sizes,
        use_histogram,
    )
    from analysis.figures.differences import difference_figure, differences_to_best, ranking_figure
    from analysis.figures.learning import curves, learning_figure
    from analysis.figures.rate_distortion import bd_figure, rate_distortion_figure
    from analysis.figures.robustness import robustness_figure, robustness_frame
    from analysis.figures.style import save, style
    from analysis.figures.trade_offs import cost_figure, cost_frame, utterance_figure, utterance_frame
    from analysis.results.load import load
    from analysis.results.study_results import Results, ResultsError
    from analysis.results.trained import load_codec
    from analysis.statistics.comparisons import bd_rates, pairwise, ranks_across
    from analysis.statistics.estimates import estimate, summary
    from analysis.statistics.leaders import leaders
    from analysis.statistics.matched_rates import coded_labels, main_labels
    from analysis.statistics.power import power_frame
    from analysis.tables.comparison import comparison
    from analysis.tables.console import print_table
    from analysis.tables.formats import render

_NAMES = {
    "results.load": ("load",),
    "results.trained": ("load_codec",),
    "results.study_results": (
        "Results",
        "ResultsError",
    ),
    "tables.comparison": ("comparison",),
    "tables.formats": ("render",),
    "tables.console": ("print_table",),
    "statistics.estimates": (
        "estimate",
        "summary",
    ),
    "statistics.comparisons": (
        "bd_rates",
        "pairwise",
        "ranks_across",
    ),
    "statistics.leaders": ("leaders",),
    "statistics.power": ("power_frame",),
    "statistics.matched_rates": (
        "coded_labels",
        "main_labels",
    ),
    "figures.style": (
        "save",
        "style",
    ),
    "figures.catalogue": (
        "spectrograms",
        "voronoi_slices",
        "voronoi_tilings",
    ),
    "figures.cells.grids": ("grids_of",),
    "figures.cells.voronoi": (
        "use_frame",
        "voronoi_figure",
    ),
    "figures.cells.motion": (
        "before_and_after_figure",
        "movement_frame",
        "pictures",
    ),
    "figures.cells.animation": ("write_animation",),
    "figures.cells.lattices": (
        "lattice_figure",
        "lattice_frame",
    ),
    "figures.rate_distortion": (
        "bd_figure",
        "rate_distortion_figure",
    ),
    "figures.differences": (
        "difference_figure",
        "differences_to_best",
        "ranking_figure",
    ),
    "figures.code_use": (
        "histogram_figure",
        "rank_figure",
        "ranks",
        "size_figure",
        "sizes",
        "use_histogram",
    ),
    "figures.learning": (
        "curves",
        "learning_figure",
    ),
    "figures.robustness": (
        "robustness_figure",
        "robustness_frame",
    ),
    "figures.trade_offs": (
        "cost_figure",
        "cost_frame",
        "utterance_figure",
        "utterance_frame",
    ),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "Results",
    "ResultsError",
    "bd_figure",
    "bd_rates",
    "before_and_after_figure",
    "coded_labels",
    "comparison",
    "cost_figure",
    "cost_frame",
    "curves",
    "difference_figure",
    "differences_to_best",
    "estimate",
    "grids_of",
    "histogram_figure",
    "lattice_figure",
    "lattice_frame",
    "leaders",
    "learning_figure",
    "load",
    "load_codec",
    "main_labels",
    "movement_frame",
    "pairwise",
    "pictures",
    "power_frame",
    "print_table",
    "rank_figure",
    "ranking_figure",
    "ranks",
    "ranks_across",
    "rate_distortion_figure",
    "render",
    "robustness_figure",
    "robustness_frame",
    "save",
    "size_figure",
    "sizes",
    "spectrograms",
    "style",
    "summary",
    "use_frame",
    "use_histogram",
    "utterance_figure",
    "utterance_frame",
    "voronoi_figure",
    "voronoi_slices",
    "voronoi_tilings",
    "write_animation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"analysis.{_HOMES[name]}"), name)
