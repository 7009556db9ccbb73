"""Resampling between any two rates: torchaudio's windowed sinc where its kernel is small, else the same sinc
block by block, with memory that does not grow with the rates.

The polyphase kernel of torchaudio has source/gcd times target/gcd entries: some thousands between the usual
rates, but 256 million from 16001 to 16000 Hz, where almost all of them are zero.
"""

import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

Float64 = NDArray[np.float64]

LOWEST_RATE, HIGHEST_RATE = 4_000, 192_000  # Hz
KERNEL_LIMIT = 2**20
"""Entries of the largest kernel that is made whole. All pairs of the rates in use lie below."""

_BLOCK = 2**18  # products that are formed at once


class Design(NamedTuple):
    """A sinc under a Kaiser window, in the terms of torchaudio: zero crossings on each side, the cutoff as a
    fraction of the lower Nyquist frequency, and the window's beta."""

    lowpass_filter_width: int
    rolloff: float
    beta: float = 14.769656459379492


def rate_problem(sample_rate: int) -> str:
    """Reason for which audio at `sample_rate` Hz is not used; empty where it is."""
    if LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        return ""
    return f"sample rate {sample_rate} Hz is outside {LOWEST_RATE} to {HIGHEST_RATE} Hz"


def kernel_size(source: int, target: int, design: Design) -> int:
    """Entries of torchaudio's kernel from `source` to `target` Hz."""
    step, phases = _terms(source, target)
    return phases * (2 * _width(step, phases, design) + step)


def transform(source: int, target: int, design: Design, *, double: bool) -> "Resample":
    """torchaudio's transform from `source` to `target` Hz, in float64 or in float32."""
    import torch
    from torchaudio.transforms import Resample

    return Resample(
        source,
        target,
        resampling_method="sinc_interp_kaiser",
        dtype=torch.float64 if double else None,
        **design._asdict(),
    )


@lru_cache(maxsize=32)
def _matrix(source: int, target: int, design: Design) -> tuple[Float64, int, int, int]:
    """torchaudio's kernel, several frames side by side: [outputs, inputs], step, width, outputs."""
    step, phases = _terms(source, target)
    made = transform(source, target, design, double=True)
    kernel = made.kernel[:, 0].numpy()
    taps = kernel.shape[1]
    group = max(1, taps // (2 * step))
    matrix = np.zeros((group * phases, taps + (group - 1) * step))
    for frame in range(group):
        matrix[frame * phases : (frame + 1) * phases, frame * step : frame * step + taps] = kernel
    return matrix, group * step, int(made.width), phases * group


def resample(audio: NDArray[np.floating], source: int, target: int, design: Design) -> Float64:
    """`audio` [samples] from `source` to `target` Hz; float64 [ceil(samples * target / source)].

    Computed in float64: rounded to 16 bits, the result does not depend on the order in which a machine sums,
    so neither does the content hash of a corpus. Both ways give the same but for the last bits.
    """
    signal = np.asarray(audio, dtype=np.float64)
    if source == target:
        return signal
    if kernel_size(source, target, design) > KERNEL_LIMIT:
        return blockwise(signal, source, target, design)
    matrix, step, width, outputs = _matrix(source, target, design)
    length = math.ceil(len(signal) * target / source)
    frames = math.ceil(length / outputs)
    padded = np.zeros((frames - 1) * step + matrix.shape[1])
    usable = min(len(signal), len(padded) - width)
    padded[width : width + usable] = signal[:usable]
    windows = np.lib.stride_tricks.sliding_window_view(padded, matrix.shape[1])[::step]
    return (windows @ matrix.T).reshape(-1)[:length]


class StreamResampler:
    """`resample` of a signal that arrives in parts of any length: the parts of the result together are it.

    Each part is computed with the samples around it that the kernel reaches, on the same grid.
    """

    def __init__(self, source: int, target: int, design: Design) -> None:
        self._terms = source, target, design
        if source == target:
            self._inputs = self._outputs = width = 1
        elif kernel_size(source, target, design) > KERNEL_LIMIT:
            self._inputs, self._outputs = _terms(source, target)
            width = _width(self._inputs, self._outputs, design)
        else:
            _, self._inputs, width, self._outputs = _matrix(source, target, design)
        self._context = math.ceil((width + 1) / self._inputs)  # steps of the grid on each side
        self._together = max(1, math.ceil(source / self._inputs))
        self._held = np.zeros(0)  # from step `_first` on
        self._first = self._done = 0

    def feed(self, samples: NDArray[np.floating]) -> Float64:
        """What `samples` [n] complete: [m], often nothing."""
        if self._terms[0] == self._terms[1]:
            return np.asarray(samples, dtype=np.float64)
        self._held = np.concatenate([self._held, samples])
        ready = self._first + len(self._held) // self._inputs - self._context - self._done
        if ready < self._together:
            return np.zeros(0)
        end = (self._done + ready + self._context - self._first) * self._inputs
        first = (self._done - self._first) * self._outputs
        result = resample(self._held[:end], *self._terms)[first : first + ready * self._outputs]
        self._done += ready
        kept = max(0, self._done - self._context)
        self._held = self._held[(kept - self._first) * self._inputs :].copy()
        self._first = kept
        return result

    def finish(self) -> Float64:
        """What is left."""
        if self._terms[0] == self._terms[1] or not len(self._held):
            return np.zeros(0)
        return resample(self._held, *self._terms)[(self._done - self._first) * self._outputs :]


def blockwise(signal: Float64, source: int, target: int, design: Design) -> Float64:
    """Resample as above, with the sinc evaluated only where it is not zero, for some phases at a time.

    Output sample `n` is the sum of `signal[k] * h(k / source - n / target)` over the `k` within the window
    around it. Its weights recur with every `phases` samples, so each is computed once.
    """
    step, phases = _terms(source, target)
    width = _width(step, phases, design)
    length = math.ceil(len(signal) * target / source)
    frames = math.ceil(length / phases)
    taps = 2 * width + 2
    padded = np.zeros(width + max(len(signal), frames * step) + taps)
    padded[width : width + len(signal)] = signal
    windows = np.lib.stride_tricks.sliding_window_view(padded, taps)
    result = np.empty((frames, phases))
    together = min(frames, max(1, _BLOCK // taps))
    several = max(1, _BLOCK // (taps * together))
    for first in range(0, phases, several):
        phase = np.arange(first, min(first + several, phases))
        start = phase * step // phases
        weights = _weights(phase, start, step, phases, width, design)
        for frame in range(0, frames, together):
            rows = np.arange(frame, min(frame + together, frames))
            inputs = windows[rows[:, None] * step + start]
            result[frame : frame + together, phase] = np.einsum("fpt,pt->fp", inputs, weights)
    return result.reshape(-1)[:length]


def _weights(
    phase: NDArray[np.int64], start: NDArray[np.int64], step: int, phases: int, width: int, design: Design
) -> Float64:
    """The kernel at the inputs from `start - width` on, for each phase: [phases, taps]."""
    import torch
    from scipy.special import i0

    beta = torch.tensor(design.beta)  # torchaudio keeps this one number in float32
    cutoff = min(step, phases) * design.rolloff
    inputs = start[:, None] - width + np.arange(2 * width + 2)
    # In integers up to the division: k / step - phase / phases, of frames.
    time = (inputs * phases - phase[:, None] * step) * (cutoff / (step * phases))
    inside = 1 - np.square(time / design.lowpass_filter_width)
    window = i0(beta.item() * np.sqrt(np.maximum(inside, 0))) / torch.i0(beta).item() * (inside >= 0)
    return np.asarray(np.sinc(time) * window * (cutoff / step))


def _terms(source: int, target: int) -> tuple[int, int]:
    divisor = math.gcd(source, target)
    return source // divisor, target // divisor


def _width(step: int, phases: int, design: Design) -> int:
    """Input samples on each side of an output sample that the window reaches."""
    return math.ceil(design.lowpass_filter_width * step / (min(step, phases) * design.rolloff))
