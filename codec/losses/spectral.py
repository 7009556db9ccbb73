"""Reconstruction losses on spectra."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torchaudio.functional
from torch import Tensor, nn

from codec.reflection import stft


class Scale(NamedTuple):
    """One short-time Fourier transform: samples a window and a hop, mel bands."""

    window: int
    hop: int
    mels: int


@dataclass(frozen=True, kw_only=True)
class SpectralLossConfig:
    """mel_weight: of the L1 distance of log mel spectra, summed over `scales`.

    complex_weight: of the L1 distance of the complex spectrum at the finest scale, magnitudes compressed to
    their square root. It is what makes the codec see phase.
    """

    scales: Sequence[Scale] = field(default=(Scale(1024, 256, 80), Scale(256, 64, 40)))
    mel_weight: float = 1.0
    complex_weight: float = 2.0


class SpectralLoss(nn.Module):
    """Log mel L1 at several scales and compressed complex STFT L1, at `sample_rate` Hz."""

    FLOOR = 1e-3  # of mel magnitudes, about 60 dB below speech: quieter differences do not count

    def __init__(self, config: SpectralLossConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        for index, scale in enumerate(config.scales):
            self.register_buffer(f"window_{index}", torch.hann_window(scale.window), persistent=False)
            filters = torchaudio.functional.melscale_fbanks(
                scale.window // 2 + 1, 0.0, sample_rate / 2, scale.mels, sample_rate
            )
            self.register_buffer(f"filters_{index}", filters, persistent=False)

    def forward(self, reconstruction: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Scalars `mel` and `complex`, weighted, for audio [batch, samples]; the loss is their sum."""
        finest = min(range(len(self.config.scales)), key=lambda index: self.config.scales[index].window)
        mel = reconstruction.new_zeros(())
        phase = reconstruction.new_zeros(())
        for index in range(len(self.config.scales)):
            filters = self.get_buffer(f"filters_{index}")
            with torch.no_grad():
                target = self._spectrum(reference, index)
                target_size = target.abs()
                target_mel = (target_size.mT @ filters + self.FLOOR).log()
            spectrum = self._spectrum(reconstruction, index)
            size = (spectrum.real.square() + spectrum.imag.square() + 1e-9).sqrt()
            mel = mel + ((size.mT @ filters + self.FLOOR).log() - target_mel).abs().mean()
            if index == finest:
                target = target * (target_size + 1e-4).rsqrt()
                shrink = (size + 1e-4).rsqrt()
                phase = (spectrum.real * shrink - target.real).abs().mean()
                phase = phase + (spectrum.imag * shrink - target.imag).abs().mean()
        return {"mel": self.config.mel_weight * mel, "complex": self.config.complex_weight * phase}

    def _spectrum(self, audio: Tensor, index: int) -> Tensor:
        scale = self.config.scales[index]
        window = self.get_buffer(f"window_{index}")
        spectrum = stft(audio, scale.window, scale.hop, window)
        return spectrum * scale.window**-0.5
