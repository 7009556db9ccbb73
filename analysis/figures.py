"""Every figure of a study, as matplotlib figures beside the frames that they show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from analysis.results import Results, records

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Drawn(NamedTuple):
    """A figure, its file name without suffix, and its data."""

    name: str
    figure: Figure
    data: pd.DataFrame


def file_name(text: str) -> str:
    """A label as a portable file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "unnamed"


def voronoi(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The planar grids of each label, with the use and the latents of its first finished seed."""
    from analysis.geometry import grids_of, reach_of
    from analysis.voronoi import use_frame, voronoi_figure

    for label, runs in results.finished.groupby("label", sort=False):
        run = records(runs.sort_values("seed", kind="stable"))[0]
        grids = grids_of(run)
        if not grids:
            continue
        histograms, latents = results.histograms(run["run_id"]), results.latents(run["run_id"])
        speech = f"{run['corpus']}, synthetic speech" if run["synthetic"] else run["corpus"]
        title = f"{label}: cells, their use and the latents on the test set ({speech}; seed {run['seed']})"
        figure = voronoi_figure(
            grids, histograms, latents, title, reach=reach_of(run), displacement=bool(latents), scale=scale
        )
        yield Drawn(f"voronoi-{file_name(str(label))}", figure, use_frame(grids, histograms))


FIGURES = (voronoi,)


def write_all(
    results: Results,
    output: Path,
    *,
    style_name: str = "paper",
    formats: Sequence[str] = ("pdf", "svg", "png"),
    data: bool = True,
    only: Iterable[str] | None = None,
) -> list[Path]:
    """Draw and write all figures (or `only` the named ones) that the study has the data for.

    Raises:
        StyleError: unknown style.
    """
    from analysis.style import save, style

    wanted = None if only is None else set(only)
    written = []
    with style(style_name) as scale:
        for make in FIGURES:
            if wanted is None or make.__name__ in wanted:
                for drawn in make(results, scale):
                    written += save(drawn.figure, output / drawn.name, formats, drawn.data if data else None)
    return written
