"""The token model: causal, deterministic, and as good as a source with known memory allows."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments.data import prepare
from experiments.evaluation import token_model
from experiments.evaluation.token_model import TokenModel


def codec_of(name: str, **options: Any) -> Codec:
    made = model.build(backbones.get("mdct-tiny"), lambda dim: quantizers.create(name, dim=dim, **options), 0)
    return made.eval()


def test_a_code_is_predicted_from_those_before_it_alone() -> None:
    torch.manual_seed(0)
    sizes = (4, 9, 2)
    predictor = TokenModel(sizes, width=16)
    factors = torch.stack([torch.randint(size, (2, 7)) for size in sizes], -1)
    bits = predictor(factors)
    assert bits.shape == factors.shape
    for frame in range(7):
        for place, size in enumerate(sizes):
            changed = factors.clone()
            changed[:, frame, place] = (changed[:, frame, place] + 1) % size
            differs = (predictor(changed) != bits).any(0).flatten()
            here = frame * len(sizes) + place
            assert not differs[:here].any()  # nothing before it
            assert differs[here:].any()
            assert frame == 6 or differs[(frame + 1) * len(sizes) :].any()  # the next frames hear of it


def test_a_source_with_memory_is_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of -1, 0 or 1 on a circle of 16 codes, and a second factor that repeats the first: log2(3) bits a
    frame of 8 nominal ones."""
    monkeypatch.setattr(token_model, "FRAMES", 40)
    steps = np.random.default_rng(0).integers(-1, 2, (40, 128))
    walk = torch.from_numpy((np.cumsum(steps, axis=1) + 200) % 16)
    torch.manual_seed(0)
    predictor = TokenModel((16, 16), width=32)
    seen: list[int] = []
    pool = torch.stack([walk, walk], -1)
    token_model._train(predictor, pool[:30], 100, 0, lambda done, asked: seen.append(done))
    assert seen == [*range(1, 101)]
    with torch.no_grad():
        first, second = predictor(pool[30:])[:, 1:].mean((0, 1)).tolist()
    assert math.log2(3) < first < 2.2
    assert second < 0.5


def test_codes_that_repeat_a_token_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream with a token per four frames beside one per frame: bits are in the frames of tokens, and the
    even codes of each cost their nominal bits."""
    monkeypatch.setattr(token_model, "FRAMES", 30)
    random = np.random.default_rng(0)
    coarse = np.repeat(random.integers(0, 16, (40, 16)), 4, axis=1)[:, :62]
    pool = torch.from_numpy(np.stack([coarse, random.integers(0, 4, (40, 62))], -1))
    torch.manual_seed(0)
    predictor = TokenModel((16, 4), width=16, strides=(4, 1))
    token_model._train(predictor, pool, 30, 0, lambda done, asked: None)
    with torch.no_grad():
        bits = predictor(pool)
    tokens = torch.arange(62) % 4 == 0
    assert (bits[:, ~tokens, 0] == 0).all()
    assert abs(float(bits[:, tokens, 0].mean()) - 4) < 0.3
    assert abs(float(bits[..., 1].mean()) - 2) < 0.15


def test_measured_on_speech(speech: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_model, "SECONDS", 64.0)
    shards = prepare(f"manifest:{speech}", sample_rate=16_000)
    codec = codec_of("fsq", bits=12)
    clips = [torch.from_numpy(shards.split("test").clip(number))[None] for number in range(2)]
    utterances = [codec.quantizer.factors(codec.encode(clip))[0].numpy().astype(np.uint8) for clip in clips]

    def measured(steps: int, seed: int) -> dict[str, float]:
        return token_model.measure(
            codec, shards.training(), utterances, steps=steps, seed=seed, check=lambda done, asked: None
        )

    before = torch.random.get_rng_state()
    few, many = measured(1, 0), measured(12, 0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert measured(1, 0) == few != measured(1, 1)
    assert many["rate/modelled"] < few["rate/modelled"] < 1.3 * codec.bitrate
    factors = len(codec.quantizer.factor_sizes)
    bits = many["rate/modelled"] / codec.frame_rate / factors
    assert many["usage/token_perplexity"] == pytest.approx(2**bits)


def test_what_has_no_codes_or_too_many_is_not_modelled(speech: Path) -> None:
    training = prepare(f"manifest:{speech}", sample_rate=16_000).training()
    for codec in (codec_of("none"), codec_of("vq", codebook_size=2**15, heads=1)):
        codes = [np.zeros((3, codec.quantizer.streams), dtype=np.int64)]
        assert token_model.measure(codec, training, codes, steps=1, seed=0, check=lambda *_: None) == {}
