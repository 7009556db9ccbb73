import pytest
import torch

from codec.losses.spectral import SpectralLoss, SpectralLossConfig


@pytest.fixture
def audio() -> torch.Tensor:
    return 0.1 * torch.randn(2, 8_000, generator=torch.Generator().manual_seed(0))


def test_zero_for_equal_audio_and_positive_otherwise(audio: torch.Tensor) -> None:
    criterion = SpectralLoss(SpectralLossConfig(), 16_000)
    same, other = criterion(audio, audio), criterion(0.5 * audio, audio)
    assert max(value.item() for value in same.values()) < 1e-3
    assert min(value.item() for value in other.values()) > 0.05


def test_only_the_complex_part_sees_phase(audio: torch.Tensor) -> None:
    losses = SpectralLoss(SpectralLossConfig(), 16_000)(-audio, audio)
    assert losses["mel"].item() < 1e-3
    assert losses["complex"].item() > 0.5


def test_weights_scale_their_parts(audio: torch.Tensor) -> None:
    reference = SpectralLoss(SpectralLossConfig(), 16_000)(0.5 * audio, audio)
    doubled = SpectralLoss(SpectralLossConfig(mel_weight=2.0, complex_weight=0.0), 16_000)(0.5 * audio, audio)
    assert doubled["mel"].item() == pytest.approx(2 * reference["mel"].item())
    assert doubled["complex"].item() == 0.0


def test_the_gradient_is_finite_at_silence() -> None:
    silent = torch.zeros(1, 4_000, requires_grad=True)
    losses = SpectralLoss(SpectralLossConfig(), 16_000)(silent, torch.zeros(1, 4_000))
    sum(losses.values()).backward()
    assert silent.grad is not None
    assert torch.isfinite(silent.grad).all()
