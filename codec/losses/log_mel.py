"""Distance of log mel spectra."""

from collections.abc import Sequence

import torch
import torchaudio.functional
from torch import Tensor, nn

from codec.losses.spectral import Scale
from codec.reflection import stft


class LogMelLoss(nn.Module):
    """Mean absolute difference of log mel magnitudes, averaged over `scales`, at `sample_rate` Hz.

    As in Vocos and WavTokenizer: Hann window, HTK mel scale without normalisation, magnitudes below 1e-7
    count as 1e-7. They use one scale of 1024 samples, a hop of 256 and 100 bands.
    """

    FLOOR = 1e-7

    def __init__(self, sample_rate: int, scales: Sequence[Scale] = (Scale(1024, 256, 100),)) -> None:
        super().__init__()
        self.scales = tuple(Scale(*scale) for scale in scales)
        for index, scale in enumerate(self.scales):
            self.register_buffer(f"window_{index}", torch.hann_window(scale.window), persistent=False)
            filters = torchaudio.functional.melscale_fbanks(
                scale.window // 2 + 1, 0.0, sample_rate / 2, scale.mels, sample_rate
            )
            self.register_buffer(f"filters_{index}", filters, persistent=False)

    def forward(self, reconstruction: Tensor, reference: Tensor) -> Tensor:
        """Scalar, for audio [batch, samples]."""
        with torch.no_grad():
            targets = [self._log_mel(reference, index) for index in range(len(self.scales))]
        differences = [
            (self._log_mel(reconstruction, index) - target).abs().mean()
            for index, target in enumerate(targets)
        ]
        return torch.stack(differences).mean()

    def _log_mel(self, audio: Tensor, index: int) -> Tensor:
        scale, window = self.scales[index], self.get_buffer(f"window_{index}")
        with torch.autocast(device_type=audio.device.type, enabled=False):
            spectrum = stft(audio.float(), scale.window, scale.hop, window)
            return (spectrum.abs().mT @ self.get_buffer(f"filters_{index}")).clamp_min(self.FLOOR).log()
