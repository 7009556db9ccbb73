"""Audio of a report: chosen utterances through every system, each with its spectrogram."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.figures.drawn import file_name
from analysis.figures.spectrograms import RANGE_DECIBELS, decibels
from analysis.results.columns import quality_column
from analysis.results.placing import rates_by
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results
from analysis.statistics.best import best_first
from analysis.tables.cells import number
from experiments.common.matched_rates import rate_groups

HEIGHT, WIDTH = 80, 320  # of a spectrogram, pixels
SHADES = 48  # more can't be told apart, and each costs bytes

Audio = Mapping[str, Mapping[str, Path]]
"""By utterance: `{"reference": path, "reconstruction": path}`."""


@dataclass(frozen=True)
class Chosen:
    """An utterance, and why it was chosen."""

    utterance: str
    why: str


def logged_audio(results: Results, labels: Sequence[str]) -> dict[str, Audio]:
    """What the first finished seed of each label logged; labels without audio are left out."""
    runs = pd.concat([results.finished, results.finished_references], ignore_index=True)
    found: dict[str, Audio] = {}
    for label in labels:
        mine = runs[runs["label"] == label].sort_values("seed", kind="stable")
        if len(mine) and (pairs := results.audio(mine["run_id"].iloc[0])):
            found[label] = pairs
    return found


def choose(results: Results, labels: Sequence[str], logged: Mapping[str, Audio]) -> list[Chosen]:
    """Best, worst and most different utterance of `labels` by the first metric, of those that all logged.

    One that is both appears once. Without scores the first three; without a direction of the metric the most
    different one alone.
    """
    common = sorted(set.intersection(*(set(pairs) for pairs in logged.values()))) if logged else []
    metric = next(iter(logged_metrics(results)), None)
    scores = results.utterances
    scores = scores[(scores["metric"] == metric) & scores["utterance"].isin(common)]
    table = scores[scores["label"].isin(list(labels))].pivot_table(
        index="utterance", columns="label", values="value"
    )
    if metric is None or table.empty:
        return [Chosen(name, "") for name in common[:3]]
    column = quality_column(metric)
    means, spans = table.mean(axis=1), table.max(axis=1) - table.min(axis=1)
    by_quality = best_first(dict(zip(map(str, means.index), means, strict=True)), column.higher_is_better)

    def told(value: float) -> str:
        return number(value, column.digits)

    reasons: dict[str, list[str]] = {}
    extremes = [(by_quality[0], "best"), (by_quality[-1], "worst")] if by_quality else []
    for name, reason in (*extremes, (str(spans.idxmax()), "most different between systems")):
        reasons.setdefault(name, []).append(reason)
    chosen = []
    for name, why in reasons.items():
        row = table.loc[[name]].dropna(axis=1)
        values = dict(zip(map(str, row.columns), row.to_numpy(dtype=float)[0].tolist(), strict=True))
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        text = (
            f"{' and '.join(why)} by {column.header}, of {len(table)} utterances logged: mean of systems "
            f"{told(sum(values.values()) / len(values))}, from {told(values[low])} ({low}) to "
            f"{told(values[high])} ({high})."
        )
        chosen.append(Chosen(name, text[0].upper() + text[1:]))
    return chosen


def write_clips(
    results: Results, labels: Sequence[str], rivals: Sequence[str], output: Path
) -> list[dict[str, Any]]:
    """Copy audio to `output/audio` and draw spectrograms beside it; returns what the page needs.

    `labels` are played; blind trials pair those of `rivals` that have one bitrate. One entry an utterance:
    name, why, sample_rate (Hz), systems; the first system is the reference. Each has label, source, picture,
    rival (equal where systems may be paired, 0 where they may not).
    """
    import soundfile

    groups = _groups(results, rivals)
    logged = logged_audio(results, labels)
    clips = []
    for place, chosen in enumerate(choose(results, rivals, logged)):
        sources = {"reference": next(iter(logged.values()))[chosen.utterance]["reference"]}
        sources |= {label: pairs[chosen.utterance]["reconstruction"] for label, pairs in logged.items()}
        pictures, rate = {}, 0
        folder = f"{place:02d}-{file_name(chosen.utterance)}"
        (output / "audio" / folder).mkdir()
        systems: list[dict[str, Any]] = []
        for turn, (label, source) in enumerate(sources.items()):
            stem = f"{folder}/{turn:02d}-{file_name(label)}"
            shutil.copyfile(source, output / "audio" / f"{stem}{source.suffix}")
            samples, rate = soundfile.read(source, dtype="float32")
            picture = f"spectrograms/{stem}.png"
            pictures[picture] = _pooled(decibels(samples, rate)[2])
            system = {"label": label, "source": f"audio/{stem}{source.suffix}", "picture": picture}
            systems.append(system | {"rival": groups.get(label, 0) if turn else 0})
        loudest = max(float(picture.max()) for picture in pictures.values())
        for name, levels in pictures.items():
            _draw(levels, loudest, output / name)
        clips.append({"name": chosen.utterance, "why": chosen.why, "sample_rate": rate, "systems": systems})
    return clips


def _groups(results: Results, rivals: Sequence[str]) -> dict[str, int]:
    """The number, from 1, of each rival's bitrate; all are 1 where no two share one."""
    runs = results.finished[results.finished["label"].isin(list(rivals))]
    means = rates_by(runs, "label")
    groups = rate_groups({str(label): float(rate) for label, rate in means.items()})
    if all(len(group) == 1 for group in groups):
        groups = [list(rivals)]
    return {label: turn for turn, group in enumerate(groups, 1) for label in group}


def _pooled(levels: np.ndarray) -> np.ndarray:
    """Means over blocks of `levels [frequencies, times]`, at most `HEIGHT` x `WIDTH`."""
    for axis, most in ((0, HEIGHT), (1, WIDTH)):
        count = min(most, levels.shape[axis])
        starts = np.linspace(0, levels.shape[axis], count, endpoint=False).astype(int)
        sizes = np.diff(np.append(starts, levels.shape[axis]))
        sums = np.add.reduceat(levels, starts, axis=axis)
        levels = sums / (sizes[:, None] if axis == 0 else sizes)
    return levels


def _draw(levels: np.ndarray, loudest: float, path: Path) -> None:
    """A palette PNG, low frequencies below, `RANGE_DECIBELS` down from the loudest of all systems."""
    from matplotlib import colormaps
    from PIL import Image

    share = np.clip(1 + (levels - loudest) / RANGE_DECIBELS, 0, 1)
    image = Image.fromarray(np.round(share[::-1] * (SHADES - 1)).astype(np.uint8), mode="P")
    colours = colormaps["magma"](np.linspace(0, 1, SHADES))[:, :3]
    image.putpalette(np.round(255 * colours).astype(np.uint8).tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, optimize=True)
