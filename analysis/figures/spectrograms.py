"""Spectrograms of one utterance through every system, side by side."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.figures.style import DOUBLE_COLUMN, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from analysis.results.study_results import Results

WINDOW_SECONDS = 0.025
RANGE_DECIBELS = 80.0
MOST_FRAMES = 400  # more can't be seen at print size
_COLUMNS = 2


def gather(
    results: Results, labels: Collection[str], utterance: str | None = None
) -> tuple[str, dict[str, np.ndarray], int] | None:
    """The reference and each label's reconstruction (first finished seed) of one utterance, and their rate.

    Without a name, the first utterance that every one of `labels` has logged; None when there is none.
    """
    import soundfile

    logged = {}
    for label, runs in results.finished.groupby("label", sort=False):
        if label not in labels:
            continue
        logged[str(label)] = results.audio(runs.sort_values("seed")["run_id"].iloc[0])
    common = sorted(set.intersection(*(set(pairs) for pairs in logged.values()))) if logged else []
    if utterance is None and common:
        utterance = common[0]
    if utterance not in common:
        return None
    clips: dict[str, np.ndarray] = {}
    rate = 0
    for label, pairs in logged.items():
        if "reference" not in clips:
            clips["reference"], rate = soundfile.read(pairs[utterance]["reference"], dtype="float32")
        clips[label], _ = soundfile.read(pairs[utterance]["reconstruction"], dtype="float32")
    return utterance, clips, rate


def decibels(clip: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Power spectrogram in dB: frequencies (Hz), times (s), `[frequencies, times]`."""
    from scipy.signal import ShortTimeFFT
    from scipy.signal.windows import hann

    size = round(WINDOW_SECONDS * sample_rate)
    hop = max(1, size // 4, len(clip) // MOST_FRAMES)
    transform = ShortTimeFFT(hann(size, sym=False), hop, sample_rate, mfft=2 ** int(np.ceil(np.log2(size))))
    power = np.abs(transform.stft(clip)) ** 2
    return transform.f, transform.t(len(clip)), 10 * np.log10(power + 1e-12)


def spectrogram_figure(
    clips: dict[str, np.ndarray], sample_rate: int, title: str = "", scale: float = 1.0
) -> Figure:
    """One panel a system, all on the colour scale of the loudest one, `RANGE_DECIBELS` down."""
    from matplotlib.figure import Figure

    rows = -(-len(clips) // _COLUMNS)
    figure = Figure(figsize=(DOUBLE_COLUMN * scale, (1.15 * rows + 0.5) * scale), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True, sharey=True).ravel()
    pictures = {name: decibels(clip, sample_rate) for name, clip in clips.items()}
    top = max(float(values.max()) for _, _, values in pictures.values())
    image = None
    for panel, (name, (frequencies, times, values)) in zip(panels, pictures.items(), strict=False):
        image = panel.imshow(
            np.clip(values, top - RANGE_DECIBELS, top),
            origin="lower",
            aspect="auto",
            extent=(times[0], times[-1], 0, frequencies[-1] / 1e3),
            cmap="magma",
            vmin=top - RANGE_DECIBELS,
            vmax=top,
            interpolation="nearest",
        )
        panel.set_title(shown(name), loc="left", pad=2)
        panel.grid(visible=False)
    for place, panel in enumerate(panels):
        if place >= len(clips):
            panel.set_axis_off()
        if place % _COLUMNS == 0:
            panel.set_ylabel("kHz")
        if place + _COLUMNS >= len(clips):
            panel.set_xlabel("time (s)")
            panel.tick_params(labelbottom=True)
    if image is not None:
        bar = figure.colorbar(image, ax=panels.tolist(), pad=0.01, aspect=40)
        bar.set_label("power (dB)")
    if title:
        figure.suptitle(title)
    return figure


def long_term(clips: dict[str, np.ndarray], sample_rate: int) -> pd.DataFrame:
    """Mean power over time of each clip: system, frequency (Hz), power (dB)."""
    frames = []
    for name, clip in clips.items():
        frequencies, _, values = decibels(clip, sample_rate)
        power = 10 * np.log10((10 ** (values / 10)).mean(axis=1))
        frames.append(pd.DataFrame({"system": name, "frequency": frequencies, "power": power}))
    return pd.concat(frames, ignore_index=True)
