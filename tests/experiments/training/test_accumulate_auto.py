"""`train.accumulate: auto`: the parts that fit are found, and the training is the one in so many parts."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from codec import backbones
from codec.losses.objectives import Losses
from codec.model import Codec
from experiments import data
from experiments.studies.sections import Train
from experiments.training import loop
from experiments.training.distributed import ProcessError
from experiments.training.observer import Interrupted
from experiments.training.on_device.memory import is_out_of_memory, next_parts
from experiments.training.weight_average import WeightAverage
from tests.experiments.training.test_adversarial_training import Watcher, build, different, go

MDCT = backbones.MDCTBackbone(sample_rate=24_000, width=16, blocks=1)
ONE_FAMILY = {"discriminator_width": 0.03, "multi_period": 0.0, "multi_period_features": 0.0}
RECIPE = {
    "batch_size": 4,
    "objective": {"name": "vocos", "options": ONE_FAMILY},
    "optimizer": "muon",
    "ema_decay": 0.9,
}
Patch = pytest.MonkeyPatch


@pytest.fixture(scope="module")
def shards(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=24_000)


class Memory:
    """A device whose memory takes `crops` crops at a time, and what was asked of it."""

    def __init__(self, crops: int) -> None:
        self.crops, self.seen = crops, list[int]()

    def take(self, crops: int) -> None:
        self.seen.append(crops)
        if crops > self.crops:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {crops} GiB.")


def in_the_generator(memory: Memory, patch: Patch) -> None:
    """Memory ends after the discriminators have been updated."""
    whole = Losses.generator

    def generator(losses: Losses, output: object, audio: Tensor, step: int) -> object:
        memory.take(len(audio))
        return whole(losses, output, audio, step)  # type: ignore[arg-type]

    patch.setattr(Losses, "generator", generator)


def in_the_encoder(memory: Memory, patch: Patch) -> None:
    """Memory ends before anything has been computed. Validation, which has more crops, keeps no gradients."""
    forward = Codec.forward

    def planted(codec: Codec, audio: Tensor) -> object:
        if torch.is_grad_enabled():
            memory.take(len(audio))
        return forward(codec, audio)

    patch.setattr(Codec, "forward", planted)


@pytest.mark.parametrize(
    ("plant", "precision"),
    [pytest.param(in_the_generator, "fp16", marks=pytest.mark.long), (in_the_encoder, "fp32")],
    ids=["fp16", "fp32"],
)
def test_the_parts_that_fit_are_found_and_the_weights_are_theirs(
    plant: Callable, precision: str, shards: data.Shards, tmp_path: Path, monkeypatch: Patch
) -> None:
    recipe = {**RECIPE, "precision": precision}
    given = build("vq", MDCT)
    go(given, shards, tmp_path / "4", Watcher(), **recipe, accumulate=4)
    memory = Memory(1)
    plant(memory, monkeypatch)
    found, watcher = build("vq", MDCT), Watcher()
    trained = go(found, shards, tmp_path / "auto", watcher, **recipe, accumulate="auto")
    assert memory.seen == [4, 2, *[1] * 4 * 4]  # steps
    assert trained.steps == 4
    assert different(given.state_dict(), found.state_dict()) == []
    texts = [text for _, name, text in watcher.warnings if name == "accumulate"]
    assert [text.partition(" (")[0] for text in texts] == [
        "out of memory at step 0; from here on a step is made in 2 parts of 2 crops",
        "out of memory at step 0; from here on a step is made in 4 parts of 1 crop",
    ]
    assert watcher.logged[1]["train/accumulate"] == 4.0
    assert "in 4 parts, " in watcher.text


def test_a_sitting_goes_on_with_the_parts_of_the_one_before(
    shards: data.Shards, tmp_path: Path, monkeypatch: Patch
) -> None:
    memory = Memory(2)
    in_the_generator(memory, monkeypatch)
    whole = build("vq", MDCT)
    go(whole, shards, tmp_path / "whole", Watcher(), **RECIPE, accumulate="auto")
    first = memory.seen.copy()
    memory.seen.clear()
    with pytest.raises(Interrupted):
        go(build("vq", MDCT), shards, tmp_path / "parts", Watcher(stop_after=2), **RECIPE, accumulate="auto")
    parts, watcher = build("vq", MDCT), Watcher()
    go(parts, shards, tmp_path / "parts", watcher, **RECIPE, accumulate="auto")
    assert memory.seen == first == [4, *[2] * 8]
    assert different(whole.state_dict(), parts.state_dict()) == []
    assert "accumulate" not in [name for _, name, _ in watcher.warnings]
    assert watcher.logged[3]["train/accumulate"] == 2.0


@pytest.mark.long
def test_memory_that_ends_in_the_second_step_or_where_discriminators_join(
    shards: data.Shards, tmp_path: Path, monkeypatch: Patch
) -> None:
    """The moments of the optimizers are there from the second step on; and the average may be what is one
    too many."""
    update, ended = WeightAverage.update, []

    def planted(average: WeightAverage, model: torch.nn.Module, steps: int, moved: Tensor) -> None:
        if steps == 2 and len(ended) < 1:
            ended.append(steps)
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        update(average, model, steps, moved)

    monkeypatch.setattr(WeightAverage, "update", planted)
    watcher = Watcher()
    go(build("vq", MDCT), shards, tmp_path / "moments", watcher, **RECIPE, accumulate="auto")
    assert [step for step, name, _ in watcher.warnings if name == "accumulate"] == [1]
    assert [watcher.logged[step].get("train/accumulate") for step in (1, 2, 3, 4)] == [1.0, 2.0, None, None]

    memory = Memory(2)
    discriminators = Losses.adversary_at

    def joined(losses: Losses, step: int) -> object:
        adversary = discriminators(losses, step)
        if adversary is not None:
            memory.take(4 if len(memory.seen) < 1 else 2)
        return adversary

    monkeypatch.setattr(Losses, "adversary_at", joined)
    late = {**RECIPE, "objective": {"name": "vocos", "options": {**ONE_FAMILY, "discriminator_start": 2}}}
    watcher = Watcher()
    go(build("vq", MDCT), shards, tmp_path / "late", watcher, **late, accumulate="auto")
    assert [step for step, name, _ in watcher.warnings if name == "accumulate"] == [2]


def test_what_no_parts_can_mend_ends_the_training(
    shards: data.Shards, tmp_path: Path, monkeypatch: Patch
) -> None:
    memory = Memory(0)
    in_the_generator(memory, monkeypatch)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        go(build("vq", MDCT), shards, tmp_path, Watcher(), **RECIPE, accumulate="auto")
    assert memory.seen == [4, 2, 1]
    memory.seen.clear()
    with pytest.raises(torch.OutOfMemoryError):
        go(build("vq", MDCT), shards, tmp_path / "number", Watcher(), **RECIPE, accumulate=2)
    assert memory.seen == [2]


def test_parts_are_equal_and_at_least_twice_as_many() -> None:
    assert [next_parts(parts, 40) for parts in (1, 2, 4, 8, 20, 40)] == [2, 4, 8, 20, 40, None]
    assert [next_parts(parts, 9) for parts in (1, 3, 9)] == [3, 9, None]
    assert next_parts(1, 1) is None
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_identity_takes_auto_for_the_batch_that_it_is() -> None:
    assert Train(accumulate="auto").identity() == Train().identity()
    assert Train(accumulate=2).identity() != Train().identity()
    with pytest.raises(ValueError, match="must be a whole number, or auto"):
        Train.model_validate({"accumulate": "all"})
    with pytest.raises(ValueError, match="must be from 1 to 65536, or auto"):
        Train.model_validate({"accumulate": 0})


def test_several_processes_are_told_to_give_a_number(shards: data.Shards) -> None:
    two = SimpleNamespace(world_size=2, global_rank=0, device=torch.device("cpu"))
    config = Train(accumulate="auto")
    with pytest.raises(ProcessError, match="auto is for one process"):
        loop._share_of_batches(shards.split("train"), 100, config, 0, two, None)  # type: ignore[arg-type]
