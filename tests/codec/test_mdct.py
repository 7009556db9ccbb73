import math

import pytest
import torch

from codec.backbones.mdct_transform import MDCT, compress, expand


@pytest.mark.parametrize("hop", [1, 5, 96])
def test_overlap_add_gives_the_audio_back(hop: int) -> None:
    audio = torch.randn(2, 12 * hop)
    transform = MDCT(hop)
    coefficients = transform(audio)
    assert coefficients.shape == (2, 13, hop)
    torch.testing.assert_close(transform.inverse(coefficients), audio, rtol=0, atol=1e-5)


def test_orthonormal_so_energy_is_kept() -> None:
    audio = torch.randn(1, 96 * 50)
    torch.testing.assert_close(MDCT(96)(audio).square().sum(), audio.square().sum(), rtol=1e-5, atol=0)


def test_a_tone_lands_in_its_band() -> None:
    hop, band = 64, 20
    time = torch.arange(hop * 40)
    tone = torch.cos(math.pi / hop * (band + 0.5) * time)[None]
    energy = MDCT(hop)(tone)[0, 2:-2].square().mean(0)
    assert int(energy.argmax()) in (band - 1, band, band + 1)
    assert energy[band - 2 : band + 3].sum() > 0.99 * energy.sum()


def test_expand_undoes_compress() -> None:
    values = torch.tensor([-4.0, -1e-6, 0.0, 0.25, 9.0])
    torch.testing.assert_close(expand(compress(values)), values)
    assert compress(values).tolist()[0] == -2.0
