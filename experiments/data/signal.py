"""One audio signal: resampling, rounding to 16 bits, level. Knows nothing of corpora."""

import math

import numpy as np
from numpy.typing import NDArray

from codec import resampling
from codec.resampling import Design

Int16 = NDArray[np.int16]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FULL_SCALE = 32768.0
TARGET_DBFS = -26.0  # ITU-T P.56 nominal speech level, here as plain RMS
PEAK_LIMIT = 0.95
GUARD_DB = 10.0  # a crop is never amplified by more than this above what its whole clip would get


# torchaudio's recommendation for the Kaiser-windowed sinc (its "kaiser best" of the resampling tutorial).
KAISER = Design(lowpass_filter_width=64, rolloff=0.9475937167399596)


def resample(audio: NDArray[np.floating], source_rate: int, target_rate: int) -> Float64:
    """Band-limited resampling of `audio` [samples] by torchaudio's Kaiser-windowed sinc, in float64."""
    return resampling.resample(audio, source_rate, target_rate, KAISER)


def to_int16(audio: NDArray[np.floating]) -> Int16:
    """Round `audio [samples]` in [-1, 1] to 16 bits, clipping what lies outside."""
    return np.clip(np.rint(np.asarray(audio, np.float64) * FULL_SCALE), -32768, 32767).astype(np.int16)


def rms(audio: Int16) -> float:
    """Root mean square of `audio [samples]` relative to full scale; exact sums, so equal on every machine."""
    squares = int(np.sum(np.square(audio.astype(np.int64))))
    return math.sqrt(squares / max(len(audio), 1)) / FULL_SCALE


def decibels(amplitude: float) -> float:
    return 20.0 * math.log10(max(amplitude, 1e-12))


def level_gains(level: Float64, peak: Float64, clip_level: Float64, target_dbfs: float) -> Float64:
    """Gains that bring signals of RMS `level` and peak `peak` (all [batch]) to `target_dbfs`.

    Two limits: the peak stays below `PEAK_LIMIT`, and a pause is not blown up into noise: the gain never
    exceeds that of the clip it was cut from (RMS `clip_level`) by more than `GUARD_DB`.
    """
    target = 10.0 ** (target_dbfs / 20.0)
    guard = target / np.maximum(clip_level, 1e-6) * 10.0 ** (GUARD_DB / 20.0)
    gain = np.minimum(target / np.maximum(level, 1e-9), guard)
    return np.minimum(gain, PEAK_LIMIT / np.maximum(peak, 1e-9))


def at_level(
    pcm: Int16, lengths: NDArray[np.int64], clip_levels: Float64, target_dbfs: float = TARGET_DBFS
) -> Float32:
    """Crops `pcm` [batch, samples], brought to `target_dbfs` RMS by `level_gains`; float32 in [-1, 1].

    lengths [batch]: samples of each that are no padding. clip_levels [batch]: RMS of the clips.
    """
    audio = pcm.astype(np.float32)
    squares = np.einsum("bs,bs->b", audio, audio, dtype=np.float64)
    level = np.sqrt(squares / lengths) / FULL_SCALE
    peak = np.maximum(audio.max(axis=1), -audio.min(axis=1)).astype(np.float64) / FULL_SCALE
    gains = level_gains(level, peak, clip_levels, target_dbfs) / FULL_SCALE
    audio *= gains.astype(np.float32)[:, None]
    return audio
