"""The training step on a fake GPU beyond quantizers: backbones, discriminators, precision, accumulation."""

from pathlib import Path

import pytest
import torch

from codec.backbones import Backbone
from codec.model import Codec
from experiments import data
from experiments.training.state import TrainingState
from tests.experiments.fake_device.fake_cuda import (
    CUDA,
    HAS_NO_DETERMINISTIC_FORM,
    NONDETERMINISTIC,
    fake_cuda,
)
from tests.experiments.fake_device.running import (
    ADVERSARIAL,
    MDCT,
    ONE_SCALE,
    SEANET,
    SOUNDSTREAM,
    Interrupted,
    Watcher,
    build,
    go,
)

FULL = {"name": "spectral"}
ONE_FAMILY = {
    "name": "spectral",
    "options": {**ONE_SCALE, "multi_resolution": 1.0, "discriminator_width": 0.03},
}
EVERYTHING = {"ema_decay": 0.9, "gradient_clip": 1.0, "accumulate": 2}
CASES: dict[str, tuple[str, Backbone, dict]] = {
    "all scales of the loss": ("none", MDCT, {"objective": FULL, "optimizer": "muon"}),
    "fp16 and its scale": ("q2d2-hex", MDCT, {"precision": "fp16", "optimizer": "muon", **EVERYTHING}),
    "fp32": ("rvq", MDCT, {"precision": "fp32", "optimizer": "adamw"}),
    "budgets": ("vq", MDCT, {"decay_at": [2, 3], "decay_share": 0.5}),
    "adversaries in fp16": ("vq", MDCT, {"objective": ONE_FAMILY, "precision": "fp16", "ema_decay": 0.9}),
    "SoundStream": ("soundstream-rvq", SOUNDSTREAM, EVERYTHING),
    "a weight of the rate": ("fsq", MDCT, {"rate_weight": 0.01, "precision": "fp16", "accumulate": 2}),
    "a frozen encoder": ("vq", MDCT, {"freeze": ["encoder"], "freeze_steps": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_a_recipe_trains_and_goes_on_without_waiting(
    name: str, shards: data.Shards, shards_24k: data.Shards, tmp_path: Path
) -> None:
    quantizer, backbone, changes = CASES[name]
    changes = {"steps": 3, "validate_every": 3, **changes}
    corpus = shards if backbone.sample_rate == 16_000 else shards_24k
    with fake_cuda() as device:
        with pytest.raises(Interrupted):
            go(build(quantizer, backbone), corpus, tmp_path, watcher := Watcher(2, device), **changes)
        if name != "budgets":  # there, a checkpoint comes before each decay
            assert watcher.waits == {}
        codec = build(quantizer, backbone)
        trained = go(codec, corpus, tmp_path, watcher := Watcher(), **changes)
        assert (trained.steps, trained.precision) == (3, changes.get("precision", "bf16"))
        assert {value.device for value in codec.state_dict().values()} == {CUDA}
    assert ("train/loss_scale" in watcher.logged[3]) == (changes.get("precision") == "fp16")


@pytest.mark.long
def test_the_adversarial_recipe(shards_24k: data.Shards, tmp_path: Path) -> None:
    """All discriminators, as released, in bf16."""
    codec = build("q2d2-rhombic-released", SEANET)
    with fake_cuda() as device:
        watcher = Watcher(1, device, watched=1)  # no codebook starts here
        with pytest.raises(Interrupted):
            go(codec, shards_24k, tmp_path, watcher, steps=2, objective=ADVERSARIAL)
    assert watcher.waits == {}
    assert {"train/discriminator/dac", "train/features/multi_period"} <= set(watcher.logged[1])


def test_optimizers_are_back_on_the_device(
    shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    states: list[TrainingState] = []
    load = TrainingState.load
    monkeypatch.setattr(TrainingState, "load", lambda state, *a: (states.append(state), load(state, *a)))
    changes = {"optimizer": "muon", "steps": 2}
    with fake_cuda():
        with pytest.raises(Interrupted):
            go(build(), shards, tmp_path, Watcher(1), **changes)
        go(build(), shards, tmp_path, **changes)
    (state,) = states
    assert [type(optimizer).__name__ for optimizer in state.optimizers] == ["AdamW", "Muon"]
    kept = [value for each in state.optimizers for values in each.state.values() for value in values.values()]
    assert {value.device for value in kept if isinstance(value, torch.Tensor)} == {CUDA}
    assert len(kept) > 10


ALL_FAMILIES = {"multi_period": 1.0, "multi_resolution": 1.0, "dac": 1.0, "discriminator_width": 0.03}
PLAIN = {"name": "spectral", "options": ONE_SCALE}
FAMILIES = {"name": "spectral", "options": {**ONE_SCALE, **ALL_FAMILIES}}


@pytest.mark.parametrize(
    ("backbone", "objective"),
    [(MDCT, PLAIN), pytest.param(SEANET, FAMILIES, marks=pytest.mark.long)],
    ids=["MDCT", "SEANet"],
)
def test_a_deterministic_training_asks_for_nothing_that_cannot_be(
    backbone: Backbone, objective: dict, shards: data.Shards, shards_24k: data.Shards, tmp_path: Path
) -> None:
    corpus = shards if backbone is MDCT else shards_24k
    given = {}
    for wanted in (False, True):
        with fake_cuda() as device:
            codec = build("vq", backbone)
            go(codec, corpus, tmp_path / str(wanted), steps=1, objective=objective, deterministic=wanted)
        given[wanted] = device.operations
    # docs/gpu.md tells these.
    assert given[False] & NONDETERMINISTIC == {
        "reflection_pad1d_backward",
        "scatter_add_",
        "index_add_",
        "convolution_backward",
    }
    assert given[False] & HAS_NO_DETERMINISTIC_FORM == {"reflection_pad1d_backward"}
    assert given[True] & HAS_NO_DETERMINISTIC_FORM == set()
    assert not torch.are_deterministic_algorithms_enabled()


def test_parts_that_fit_are_found_on_the_device(
    shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, seen = Codec.forward, []

    def planted(codec: Codec, audio: torch.Tensor) -> object:
        if torch.is_grad_enabled():
            seen.append(len(audio))
            if len(audio) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1.00 GiB.")
        return forward(codec, audio)

    monkeypatch.setattr(Codec, "forward", planted)
    changes = {"accumulate": "auto", "precision": "fp16", "optimizer": "muon", "ema_decay": 0.9}
    with fake_cuda() as device:
        codec = build("vq")
        watcher = Watcher(device=device, watched=3)  # from the third step on no state is copied
        go(codec, shards, tmp_path, watcher, **changes, steps=4)
        assert {value.device for value in codec.state_dict().values()} == {CUDA}
    assert seen == [2, *[1] * 8]
    assert "accumulate" in [name for name, _ in watcher.warned]
    assert watcher.waits == {}
