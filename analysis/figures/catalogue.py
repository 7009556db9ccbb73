"""Every figure of a study, as matplotlib figures beside the frames that they show."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from analysis.figures.budgets import budget_figure
from analysis.figures.cells.grids import TILINGS, grids_of, reach_of, slices_of, views_of
from analysis.figures.cells.lattices import lattice_figure, lattice_frame
from analysis.figures.cells.motion import before_and_after_figure, movement_frame, pictures
from analysis.figures.cells.panel import Words
from analysis.figures.cells.saturation import saturation_of
from analysis.figures.cells.voronoi import use_frame, voronoi_figure
from analysis.figures.code_use import histogram_figure, rank_figure, ranks, size_figure, sizes, use_histogram
from analysis.figures.differences import difference_figure, differences_to_best, ranking_figure
from analysis.figures.drawn import Drawn, file_name, file_names
from analysis.figures.effects import effect_figure
from analysis.figures.learning import curves, learning_figure
from analysis.figures.properties import CHANNELS, SIGNAL_TO_NOISE, property_figure, property_frame
from analysis.figures.rate_distortion import bd_figure, has_curves, rate_distortion_figure
from analysis.figures.robustness import robustness_figure, robustness_frame
from analysis.figures.spectrograms import gather, long_term, spectrogram_figure
from analysis.figures.style import shown
from analysis.figures.trade_offs import COSTS, cost_figure, cost_frame, utterance_figure, utterance_frame
from analysis.results.columns import quality_column
from analysis.results.logged_options import parameter
from analysis.results.placing import is_measured, placing_rates, rates_by
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results, records
from analysis.statistics.best import best_first
from analysis.statistics.budgets import budget_differences, budget_means, by_budget, order
from analysis.statistics.comparisons import bd_rates, ranks_across
from analysis.statistics.contrasts import contrasts
from analysis.statistics.estimates import summary
from analysis.statistics.matched_rates import coded_labels, labels_by_rate, main_labels, rate_in_words
from quantizers.geometry.lattices import DIMENSIONS

if TYPE_CHECKING:
    from analysis.figures.cells.voronoi import PlanarGrid

SOLID = 3  # dimensions
PLACED = "Entropy-constrained systems at their measured rate, the others at their nominal one"


def voronoi(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The planar grids of each label, with the use and the latents of its first finished seed."""
    names = _file_names(results)
    for label, run in _first_seeds(results):
        views = views_of(run)
        if not views:
            continue
        grids = [view.grid for view in views]
        histograms, latents = _histograms(results, run), results.latents(run["run_id"])[: len(grids)]
        title = f"{shown(label)}: cells, their use and the latents on the test set ({_speech(run)})"
        figure = voronoi_figure(
            grids,
            histograms,
            latents,
            title,
            reach=[view.reach for view in views],
            displacement=bool(latents),
            saturation=saturation_of(views, latents),
            scale=scale,
        )
        yield Drawn(f"voronoi-{names[label]}", figure, use_frame(grids, histograms), label)


def voronoi_slices(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The codebooks of each label whose codes are learned, in the plane of their principal components."""
    words = Words(point="code (its cell is cut)", elsewhere="code (its cell is not)")
    names = _file_names(results)
    for label, run in _first_seeds(results):
        slices = slices_of(results.slices(run["run_id"]))
        if not slices:
            continue
        grids = [grid for grid, _ in slices]
        histograms = results.histograms(run["run_id"])[: len(grids)]
        title = (
            f"{shown(label)}: slice of the cells by the plane of the codebook's first two principal "
            f"components ({_speech(run)})"
        )
        latents = [latents for _, latents in slices]
        figure = voronoi_figure(grids, histograms, latents, title, words=words, columns=2, scale=scale)
        frame = use_frame(grids, histograms)
        frame = frame.assign(offset=np.concatenate([grid.offsets for grid in grids]))
        yield Drawn(f"voronoi-slice-{names[label]}", figure, frame, label)


def voronoi_tilings(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The three tilings at the main rate side by side: the first pair of each."""
    main = main_labels(results)
    runs = {str(run["quantizer"]): run for label, run in _first_seeds(results) if label in main}
    shown = [runs[name] for name in TILINGS if name in runs and grids_of(runs[name])]
    if len(shown) < 2:
        return
    views = [views_of(run)[0] for run in shown]
    grids = [view.grid for view in views]
    histograms = [_histograms(results, run)[:1] for run in shown]
    latents = [results.latents(run["run_id"])[:1] for run in shown]
    counts = [first[0] for first in histograms] if all(histograms) else []
    samples = [first[0] for first in latents] if all(latents) else []
    rate = float(placing_rates(pd.DataFrame(shown)).mean()) / 1e3
    figure = voronoi_figure(
        grids,
        counts,
        samples,
        f"The first pair of each tiling at {rate:.2f} kbit/s ({_speech(shown[0])})",
        reach=[view.reach for view in views],
        displacement=bool(samples),
        saturation=saturation_of(views, samples),
        scale=scale,
    )
    frame = use_frame(grids, counts)
    labels = frame["pair"].map(dict(enumerate(str(run["label"]) for run in shown)))
    yield Drawn("voronoi-tilings", figure, frame.assign(pair=0).assign(label=labels))


def voronoi_training(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The first pair of each grid at the main rate before, early in and after training."""
    names = _file_names(results)
    for label, grid, reach, snapshots in _motions(results):
        title = f"{shown(label)}: cells of the first pair, their use and the latents of fixed crops"
        figure = before_and_after_figure(grid, snapshots, reach=reach, title=title, scale=scale)
        yield Drawn(f"voronoi-training-{names[label]}", figure, movement_frame(snapshots), label)


def lattices(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """A cell of each lattice of up to three dimensions that the study has; slices of others look alike."""
    made = results.finished[results.finished["quantizer"] == "lattice"]
    names = [parameter(run, "lattice") for run in records(made)]
    for name in dict.fromkeys(names):
        if name and DIMENSIONS.get(name, SOLID + 1) <= SOLID:
            yield Drawn(f"lattice-{file_name(name)}", lattice_figure(name, scale), lattice_frame(name))


def rate_distortion(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against bitrate, where some system was measured at several rates, and against the rate of coded
    files; with references, whose rates and scores are often far off, in a figure of its own."""
    frame = summary(results)
    if has_curves(frame):
        metrics = dict.fromkeys(frame["metric"])
        gains = pd.concat([bd_rates(results, str(metric)) for metric in metrics], ignore_index=True)
        measured = bool(is_measured(results.finished).any())
        name = "bitrate, nominal or measured" if measured else "bitrate"
        note = PLACED if measured else ""
        yield Drawn("rate-distortion", rate_distortion_figure(frame, scale, name), frame, rate=note)
        if gains["bd_rate"].notna().any():
            series = dict(zip(frame["series"].astype(str), frame["quantizer"].astype(str), strict=True))
            yield Drawn("bd-rates", bd_figure(gains, series, scale), gains)
        coded = summary(results, rate="rate/coded")
        if has_curves(coded):
            figure = rate_distortion_figure(coded, scale, "coded rate")
            yield Drawn("rate-distortion-coded", figure, coded)
    if len(results.finished_references):
        frame = summary(results, references=True)
        if has_curves(frame):
            yield Drawn("rate-distortion-references", rate_distortion_figure(frame, scale), frame)


def robustness(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against the severity of disturbances, at the main rate."""
    frame = robustness_frame(results)
    frame = frame[frame["label"].isin(main_labels(results))].reset_index(drop=True)
    if len(frame):
        yield Drawn("robustness", robustness_figure(frame, scale), frame, rate=_headline(results))


def learning(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Losses and validation metrics against steps, at the main rate; runs that did not finish, too."""
    histories = results.histories
    shown_labels = coded_labels(results) or main_labels(results)  # a ceiling would squash the other curves
    histories = histories[histories["label"].isin([*shown_labels, *_unfinished(results)])]
    if len(histories) and len(frame := curves(histories)):  # a training of a few steps logs no loss
        yield Drawn(
            "learning-curves",
            learning_figure(frame, _quantizers(results), scale),
            frame,
            rate=_headline(results),
        )


def budgets(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against the budget of the training, at the main rate, where runs have several."""
    for metric in logged_metrics(results):
        column = quality_column(metric)
        frame = by_budget(results, metric, main_labels(results))
        found = order(frame, column.higher_is_better)
        if found is None:
            continue
        means, best = budget_means(frame), found.labels[0]
        apart = budget_differences(frame, best)
        header = column.name
        figure = budget_figure(means, apart, shown(best), header, _quantizers(results), scale)
        shown_frame = means.merge(
            apart.drop(columns="seeds"), on=["label", "steps"], how="left", suffixes=("", "_difference")
        )
        yield Drawn(f"budgets-{file_name(metric)}", figure, shown_frame, rate=_headline(results))


def code_ranks(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """How evenly each factor's codes are used, at the main rate, and how many are used how much."""
    usage = results.usage[results.usage["label"].isin(coded_labels(results))]
    if len(usage):
        frame = ranks(usage)
        rate = _headline(results)
        yield Drawn("code-ranks", rank_figure(frame, _quantizers(results), scale), frame, rate=rate)
        frame = use_histogram(usage)
        yield Drawn("code-histograms", histogram_figure(frame, _quantizers(results), scale), frame, rate=rate)


def utilisation(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Codes used against codebook size."""
    if "usage/used_fraction" in results.finished:
        frame = sizes(results.finished)
        curves = dict(zip(results.finished["label"], results.finished["series"], strict=True))
        yield Drawn("utilisation", size_figure(frame, curves, scale), frame)


def cost(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against cost."""
    metrics = logged_metrics(results)
    if metrics and any(name in results.finished for name in COSTS):
        frame = cost_frame(results, metrics[0])
        frame = frame[frame["label"].isin(main_labels(results))].reset_index(drop=True)
        yield Drawn("cost", cost_figure(frame, scale), frame, rate=_headline(results))


def utterances(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The two best quantizers of the main rate against each other, utterance by utterance."""
    for metric in logged_metrics(results)[:1]:
        frame = summary(results, [metric]).set_index("label")
        main = frame[(frame["bitrate"] > 0) & frame.index.isin(main_labels(results))]
        means = dict(zip(map(str, main.index), main["mean"], strict=True))
        best, second, *_ = *best_first(means, quality_column(metric).higher_is_better), "", ""
        pairs = utterance_frame(results, metric, second, best) if second else pd.DataFrame()
        if len(pairs):
            seeds = int(frame.loc[[best, second], "seeds"].min())
            figure = utterance_figure(pairs, metric, str(frame.loc[best, "quantizer"]), scale, seeds)
            yield Drawn(f"utterances-{file_name(metric)}", figure, pairs, rate=_headline(results))


def differences(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Paired differences to the best quantizer at each rate, one panel per metric; the main rate first."""
    means = rates_by(results.finished, "label")
    groups = labels_by_rate(results)[1]
    kilobits = [float(means[labels].mean()) / 1e3 for labels in groups]
    for number, (labels, rate) in enumerate(zip(groups, kilobits, strict=True)):
        frame = differences_to_best(results, labels)
        if len(frame):
            alike = sum(f"{other:.2f}" == f"{rate:.2f}" for other in kilobits) > 1
            at = f"-at-{rate:.{6 if alike else 2}f}-kbit" if number else ""
            figure = difference_figure(frame, _quantizers(results), scale)
            yield Drawn(f"differences{at}", figure, frame, rate=f"{rate:.2f} kbit/s")


def effects(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The contrasts of the study, at all rates."""
    frame = contrasts(results)
    if len(frame):
        yield Drawn("effects", effect_figure(frame, scale), frame)


def channels(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against the number of channels, where rows at one rate have several numbers of them."""
    frame = property_frame(results, CHANNELS)
    if len(frame):
        yield Drawn("channels", property_figure(frame, CHANNELS, scale), frame)


def signal_to_noise(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against the signal-to-noise ratio of the features, where all rows have one frozen encoder."""
    runs = results.finished
    features = ["corpus_hash", "protocol", "param/backbone.name", "starting_weights", "warm_start"]
    if any(name in runs and runs[name].nunique(dropna=False) > 1 for name in features):
        return  # other features, of other variances, or other scores
    frame = property_frame(results, SIGNAL_TO_NOISE)
    if len(frame):
        yield Drawn("signal-to-noise", property_figure(frame, SIGNAL_TO_NOISE, scale), frame)


def critical_differences(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Average ranks of trainings over rates, seeds and corpora, with the critical difference."""
    for metric in logged_metrics(results)[:1]:
        frame = ranks_across(results, metric)
        if len(frame) > 2:
            yield Drawn(
                f"ranks-{file_name(metric)}", ranking_figure(frame, _quantizers(results), scale), frame
            )


def spectrograms(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """One utterance, decoded by every system."""
    gathered = gather(results, main_labels(results))
    if gathered:
        utterance, clips, rate = gathered
        figure = spectrogram_figure(clips, rate, f"utterance {shown(utterance)}", scale)
        yield Drawn("spectrograms", figure, long_term(clips, rate), rate=_headline(results))


def animations(results: Results, scale: float = 1.0) -> Iterator[tuple[str, Iterator[np.ndarray]]]:
    """File name and pictures of the latents of each grid at the main rate while it was trained."""
    names = _file_names(results)
    for label, grid, reach, snapshots in _motions(results):
        name = f"voronoi-training-{names[label]}"
        yield name, pictures(grid, snapshots, reach=reach, title=shown(label), scale=scale)


def _headline(results: Results) -> str:
    """`3.33 kbit/s`, the rate of the figures of one rate, or the range where a study allows several."""
    return rate_in_words(results, coded_labels(results))


def _unfinished(results: Results) -> list[str]:
    finished = set(results.finished["label"])
    return [label for label in dict.fromkeys(results.runs["label"]) if label not in finished]


def _first_seeds(results: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each label with the run of its first finished seed."""
    for label, runs in results.finished.groupby("label", sort=False):
        yield str(label), records(runs.sort_values("seed", kind="stable").head(1))[0]


def _histograms(results: Results, run: Mapping[str, Any]) -> list[np.ndarray]:
    """Counts of the points of each grid of a run."""
    alone, joint = results.histograms(run["run_id"]), results.pair_histograms(run["run_id"])
    found = []
    for view in views_of(run):
        logged, place = (alone, view.factors[0]) if len(view.factors) == 1 else (joint, view.channels[0] // 2)
        if place >= len(logged):
            return []
        found.append(logged[place])
    return found


def _speech(run: Mapping[str, Any]) -> str:
    return f"{shown(run['corpus'])}{', synthetic speech' if run['synthetic'] else ''}; seed {run['seed']}"


def _motions(
    results: Results,
) -> Iterator[tuple[str, PlanarGrid, tuple[float, float], dict[str, np.ndarray]]]:
    """Label, first grid, its reach, and snapshots of each label of the main rate that has two or more."""
    main = main_labels(results)
    for label, run in _first_seeds(results):
        grids = grids_of(run) if label in main else ()
        snapshots = results.snapshots(run["run_id"]) if grids else {}
        if len(snapshots.get("steps", ())) > 1:
            yield label, grids[0], reach_of(run)[0], snapshots


def _file_names(results: Results) -> dict[str, str]:
    """The file name of each label of the study, finished or not."""
    return file_names(dict.fromkeys(results.runs["label"].astype(str)))


def _quantizers(results: Results) -> dict[str, str]:
    return dict(zip(results.runs["label"].astype(str), results.runs["quantizer"].astype(str), strict=True))


# What answers the question comes first.
FIGURES: tuple[Callable[[Results, float], Iterator[Drawn]], ...] = (
    effects,
    rate_distortion,
    differences,
    channels,
    signal_to_noise,
    critical_differences,
    utterances,
    robustness,
    budgets,
    cost,
    learning,
    voronoi_tilings,
    voronoi,
    voronoi_slices,
    voronoi_training,
    lattices,
    utilisation,
    code_ranks,
    spectrograms,
)
