"""The modified discrete cosine transform: critically sampled frames that overlap-add to the signal again."""

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class MDCT(nn.Module):
    """Sine-windowed MDCT with `hop` coefficients a frame, orthonormal.

    `inverse(forward(audio))` gives the audio back: neighbouring frames cancel each other's aliasing
    (Princen and Bradley 1986; Princen, Johnson and Bradley 1987). Computed as a matrix product, which for
    frames this short is faster than an FFT on any device.
    """

    basis: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop = hop
        time = torch.arange(2 * hop, dtype=torch.float64) + 0.5
        frequency = torch.arange(hop, dtype=torch.float64) + 0.5
        window = torch.sin(math.pi / (2 * hop) * time)
        cosines = torch.cos(math.pi / hop * (time[:, None] + hop / 2) * frequency)
        basis = math.sqrt(2 / hop) * window[:, None] * cosines
        self.register_buffer("basis", basis.float(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Coefficients [batch, samples / hop + 1, hop] of `audio` [batch, samples], samples a multiple of
        hop."""
        blocks = functional.pad(audio, (self.hop, self.hop)).unflatten(-1, (-1, self.hop))
        return blocks[:, :-1] @ self.basis[: self.hop] + blocks[:, 1:] @ self.basis[self.hop :]

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Audio [batch, (frames - 1) * hop] of `coefficients` [batch, frames, hop]."""
        first = coefficients @ self.basis[: self.hop].mT
        second = coefficients @ self.basis[self.hop :].mT
        return (first[:, 1:] + second[:, :-1]).flatten(1)


def compress(coefficients: Tensor) -> Tensor:
    """Signed square root: speech coefficients span five decades, a network likes two or three."""
    return coefficients.sign() * coefficients.abs().sqrt()


def expand(compressed: Tensor) -> Tensor:
    """Inverse of `compress`."""
    return compressed * compressed.abs()
