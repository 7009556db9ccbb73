"""One audio signal: resampling, level, and reading a file into 16-bit clips. Knows nothing of corpora."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Int16 = NDArray[np.int16]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

FULL_SCALE = 32768.0
TARGET_DBFS = -26.0  # ITU-T P.56 nominal speech level, here as plain RMS
PEAK_LIMIT = 0.95
GUARD_DB = 10.0  # a crop is never amplified by more than this above what its whole clip would get


# torchaudio's recommendation for the Kaiser-windowed sinc (its "kaiser best" of the resampling tutorial).
KAISER = {"lowpass_filter_width": 64, "rolloff": 0.9475937167399596, "beta": 14.769656459379492}


@lru_cache(maxsize=32)
def _resampling_matrix(source_rate: int, target_rate: int) -> tuple[Float64, int, int, int]:
    """Torchaudio's polyphase kernel, several frames side by side: [outputs, inputs], step, width, phases."""
    import torch
    from torchaudio.transforms import Resample

    divisor = math.gcd(source_rate, target_rate)
    step, phases = source_rate // divisor, target_rate // divisor
    design = Resample(
        source_rate, target_rate, resampling_method="sinc_interp_kaiser", dtype=torch.float64, **KAISER
    )
    kernel = design.kernel[:, 0].numpy()
    taps = kernel.shape[1]
    group = max(1, taps // (2 * step))
    matrix = np.zeros((group * phases, taps + (group - 1) * step))
    for frame in range(group):
        matrix[frame * phases : (frame + 1) * phases, frame * step : frame * step + taps] = kernel
    return matrix, group * step, int(design.width), phases * group


def resample(audio: NDArray[np.floating], source_rate: int, target_rate: int) -> Float64:
    """Band-limited resampling of `audio [samples]` by torchaudio's Kaiser-windowed sinc.

    Computed in float64 as one matrix product: rounded to 16 bits, the result does not depend on the order in
    which a machine sums, so neither does the content hash of a corpus.
    """
    signal = np.asarray(audio, dtype=np.float64)
    if source_rate == target_rate:
        return signal
    matrix, step, width, outputs = _resampling_matrix(source_rate, target_rate)
    length = math.ceil(len(signal) * target_rate / source_rate)
    frames = math.ceil(length / outputs)
    padded = np.zeros((frames - 1) * step + matrix.shape[1])
    usable = min(len(signal), len(padded) - width)
    padded[width : width + usable] = signal[:usable]
    windows = np.lib.stride_tricks.sliding_window_view(padded, matrix.shape[1])[::step]
    return (windows @ matrix.T).reshape(-1)[:length]


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
