"""Reflection of a signal at its ends."""

import torch
from torch import Tensor
from torch.nn import functional


def reflect(signal: Tensor, left: int, right: int) -> Tensor:
    """`signal` [..., length] mirrored at both ends, of any length from 1.

    A signal too short to be mirrored that far is followed by zeros first.
    """
    if not left and not right:
        return signal
    short = max(0, max(left, right) - signal.shape[-1] + 1)
    if short:
        signal = functional.pad(signal, (0, short))
    end = signal.shape[-1] - 1
    # Five times as fast as functional.pad on a CPU; on a GPU its gradient is deterministic, which that of
    # functional.pad is not.
    before, after = signal[..., 1 : left + 1].flip(-1), signal[..., end - right : end].flip(-1)
    padded = torch.cat((before, signal, after), dim=-1)
    return padded[..., : padded.shape[-1] - short]


def pad(signal: Tensor, left: int, right: int) -> Tensor:
    """`functional.pad` by reflection; where torch is to compute deterministically on a GPU, by `reflect`."""
    if torch.are_deterministic_algorithms_enabled() and signal.is_cuda:
        return reflect(signal, left, right)
    return functional.pad(signal, (left, right), mode="reflect")


def stft(audio: Tensor, size: int, hop: int, window: Tensor) -> Tensor:
    """Complex spectra [batch, bins, frames] of audio [batch, samples], reflected by half a window at its
    ends. size: of the window, samples."""
    if torch.are_deterministic_algorithms_enabled() and audio.is_cuda:
        audio = reflect(audio, size // 2, size // 2)
        return torch.stft(audio, size, hop, window=window, center=False, return_complex=True)
    return torch.stft(audio, size, hop, window=window, return_complex=True)
