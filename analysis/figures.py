"""Every figure of a study, as matplotlib figures beside the frames that they show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from analysis.results import Results, records

if TYPE_CHECKING:
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


def rate_distortion(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against bitrate, where some quantizer was measured at several rates."""
    from analysis.comparisons import bd_rates
    from analysis.estimates import summary
    from analysis.rate_distortion import bd_figure, bd_text, has_curves, rate_distortion_figure

    frame = summary(results, references=True)
    if has_curves(frame):
        metrics = dict.fromkeys(frame["metric"])
        gains = pd.concat([bd_rates(results, str(metric)) for metric in metrics], ignore_index=True)
        first = gains[gains["metric"] == next(iter(metrics))]
        legend = {str(gain["series"]): bd_text(gain) for gain in records(first)}
        yield Drawn("rate-distortion", rate_distortion_figure(frame, legend=legend, scale=scale), frame)
        if gains["bd_rate"].notna().any():
            yield Drawn("bd-rates", bd_figure(gains, scale), gains)


def robustness(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against the severity of disturbances."""
    from analysis.robustness import robustness_figure, robustness_frame

    frame = robustness_frame(results)
    if len(frame):
        yield Drawn("robustness", robustness_figure(frame, scale), frame)


def learning(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Losses and validation metrics against steps."""
    from analysis.learning import curves, learning_figure

    if len(results.histories):
        frame = curves(results.histories)
        yield Drawn("learning-curves", learning_figure(frame, _quantizers(results), scale), frame)


def code_ranks(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """How evenly each factor's codes are used, at the main rate."""
    from analysis.utilisation import rank_figure, ranks

    usage = results.usage[results.usage["label"].isin(coded_labels(results))]
    if len(usage):
        frame = ranks(usage)
        yield Drawn("code-ranks", rank_figure(frame, _quantizers(results), scale), frame)


def utilisation(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Codes used against codebook size."""
    from analysis.utilisation import size_figure, sizes

    if "usage/used_fraction" in results.finished:
        frame = sizes(results.finished)
        yield Drawn("utilisation", size_figure(frame, scale), frame)


def cost(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Quality against cost."""
    from analysis.estimates import logged_metrics
    from analysis.trade_offs import COSTS, cost_figure, cost_frame

    metrics = logged_metrics(results)
    if metrics and any(name in results.finished for name in COSTS):
        frame = cost_frame(results, metrics[0])
        frame = frame[frame["label"].isin(main_labels(results))].reset_index(drop=True)
        yield Drawn("cost", cost_figure(frame, scale), frame)


def utterances(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """The two best quantizers of the main rate against each other, utterance by utterance."""
    from analysis.estimates import logged_metrics, quality_column, summary
    from analysis.trade_offs import utterance_figure, utterance_frame

    for metric in logged_metrics(results)[:1]:
        frame = summary(results, [metric]).set_index("label")
        main = frame[(frame["bitrate"] > 0) & frame.index.isin(main_labels(results))]
        best = main["mean"].sort_values(
            ascending=quality_column(metric).higher_is_better is False, kind="stable"
        )
        if len(best) > 1:
            pairs = utterance_frame(results, metric, str(best.index[1]), str(best.index[0]))
            if len(pairs):
                yield Drawn(
                    f"utterances-{metric}",
                    utterance_figure(pairs, metric, frame.loc[best.index[0], "quantizer"], scale),
                    pairs,
                )


def differences(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Paired differences to the best quantizer of the main rate, one panel a metric."""
    from analysis.comparison_figures import difference_figure, differences_to_best

    frame = differences_to_best(results, coded_labels(results))
    if len(frame):
        yield Drawn("differences", difference_figure(frame, _quantizers(results), scale), frame)


def critical_differences(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """Average ranks over utterances with Nemenyi's critical difference."""
    from analysis.comparison_figures import rank_frame, ranking_figure
    from analysis.estimates import logged_metrics

    for metric in logged_metrics(results)[:1]:
        frame = rank_frame(results, metric, coded_labels(results))
        if len(frame) > 2:
            yield Drawn(f"ranks-{metric}", ranking_figure(frame, _quantizers(results), scale), frame)


def spectrograms(results: Results, scale: float = 1.0) -> Iterator[Drawn]:
    """One utterance through every system."""
    from analysis.spectrograms import gather, long_term, spectrogram_figure

    found = gather(results, main_labels(results))
    if found:
        utterance, clips, rate = found
        figure = spectrogram_figure(clips, rate, f"utterance {utterance}", scale)
        yield Drawn("spectrograms", figure, long_term(clips, rate))


def main_labels(results: Results) -> list[str]:
    """The unquantized systems, and the quantizers of the rate that most of them share."""
    from analysis.tables import rate_groups

    means = results.finished.groupby("label", sort=False)["rate/bitrate"].mean()
    rates = {str(label): float(rate) for label, rate in zip(means.index, means.to_numpy(), strict=True)}
    coded = {label: rate for label, rate in rates.items() if rate > 0}
    ceiling = [label for label in rates if label not in coded]
    return ceiling + (rate_groups(coded)[0] if coded else [])


def coded_labels(results: Results) -> list[str]:
    """`main_labels` without the unquantized systems."""
    rates = results.finished.groupby("label")["rate/bitrate"].mean()
    return [label for label in main_labels(results) if rates[label] > 0]


def _quantizers(results: Results) -> dict[str, str]:
    return {str(run["label"]): str(run["quantizer"]) for run in records(results.runs)}


FIGURES: tuple[Callable[[Results, float], Iterator[Drawn]], ...] = (
    voronoi,
    rate_distortion,
    robustness,
    learning,
    code_ranks,
    utilisation,
    cost,
    utterances,
    differences,
    critical_differences,
    spectrograms,
)


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
