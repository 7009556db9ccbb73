"""Checkpoints: two generations, damage that is noticed, files of other versions and other trainings."""

import contextlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from experiments import data
from experiments.common.run_folder import SNAPSHOTS
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.training import distributed
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.latent_snapshots import latent_snapshots
from experiments.training.loop import train
from experiments.training.observer import Interrupted, Observer
from experiments.training.state import TrainingState, initial_state, random_state

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(speech: Path) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000)


@pytest.fixture(scope="module")
def run(shards: data.Shards) -> Run:
    asked = study.load(
        "quickstart",
        [
            *("quantizers=[q2d2-hex]", "backbone.options={width: 16, blocks: 1}", "evaluate.snapshots=5"),
            "train={steps: 8, batch_size: 2, crop_seconds: 0.25, warmup_steps: 1, checkpoint_every: 2}",
        ],
    )
    corpus = CorpusIdentity(spec="", name="", content_hash=shards.content_hash, synthetic=True)
    return runs.expand(asked, corpus)[0]


def state_of(run: Run, **counters: Any) -> TrainingState:
    state = initial_state(run.codec(), run.train, seed=0, device=CPU)
    for name, value in counters.items():
        setattr(state, name, value)
    return state


def restored(checkpoint: Checkpoint, run: Run) -> tuple[int, list[str]]:
    """Step and warnings of what a checkpoint gives."""
    state = state_of(run)
    warnings = checkpoint.restore(state, distributed.single(CPU))
    return state.step, warnings


def flip(path: Path, place: int = -100) -> None:
    """Turn one bit of a tensor."""
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def fill_with_a_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(_Marker(path.parent / "executed")))


class _Marker:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def edited(change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> Callable[[Path], None]:
    """A file with other content and no digest, as if an earlier version had been damaged."""

    def damage(path: Path) -> None:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        metadata.pop("digest", None)
        change(tensors, metadata)
        save_file(tensors, path, metadata)

    return damage


def progress(text: str) -> Callable[[Path], None]:
    return edited(lambda tensors, metadata: metadata.update(progress=text))


def nameless(tensors: dict[str, torch.Tensor], _: dict[str, str]) -> None:
    tensors["model/unknown"] = tensors.pop(next(name for name in tensors if name.startswith("model/")))


DAMAGE = {
    "a flipped bit": flip,
    "nothing": empty,
    "cut short": cut,
    "a pickle": fill_with_a_pickle,
    "no progress": edited(lambda tensors, metadata: metadata.pop("progress")),
    "progress that is no JSON": progress("{"),
    "progress that is no dictionary": progress("[1]"),
    "progress of a wrong type": progress('{"step": "3"}'),
    "progress of a later version": progress('{"step": 3, "epoch": 1}'),
    "no configuration": edited(lambda tensors, metadata: metadata.pop("configuration")),
    "another tensor": edited(nameless),
    "a tensor of another shape": edited(
        lambda tensors, _: tensors.update({n: t[:1] for n, t in tensors.items() if n.endswith("bias")})
    ),
    "an optimizer's of another shape": edited(
        lambda tensors, _: tensors.update({"optimizer/0/0/exp_avg": torch.zeros(1, 2, 3)})
    ),
    "an optimizer's of no parameter": edited(
        lambda tensors, _: tensors.update({"optimizer/0/x/exp_avg": torch.zeros(1)})
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_state_gives_way_to_the_one_before(kind: str, run: Run, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", run.training_identity)
    for step in (1, 2, 3):
        checkpoint.save(state_of(run, step=step), [random_state(CPU)])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "state.previous.safetensors",
        "state.safetensors",
    ]
    DAMAGE[kind](checkpoint.path)
    step, (warning,) = restored(checkpoint, run)
    assert step == 2
    assert "state.safetensors is damaged" in warning
    assert "goes on from the state before, of step 2" in warning
    assert restored(checkpoint, run) == (2, [])  # told once
    checkpoint.save(state_of(run, step=3), [])
    assert restored(checkpoint, run) == (3, [])
    for path in checkpoint.generations:
        DAMAGE[kind](path)
    step, (warning,) = restored(checkpoint, run)
    assert step == 0
    assert warning.endswith("begins again")
    assert list(tmp_path.iterdir()) == []  # no `executed` either


def test_what_is_refused_has_changed_nothing(run: Run, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", run.training_identity)
    other = state_of(run, step=3)
    with torch.no_grad():
        for parameter in other.codec.parameters():
            parameter.fill_(0.5)
    checkpoint.save(other, [])
    DAMAGE["an optimizer's of another shape"](checkpoint.path)  # found last
    state, before = state_of(run), state_of(run).tensors()
    checkpoint.restore(state, distributed.single(CPU))
    assert all(torch.equal(value, before[name]) for name, value in state.tensors().items())


def test_a_state_of_before_there_were_digests_is_taken(run: Run, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", run.training_identity)
    checkpoint.save(state_of(run, step=3), [])
    edited(lambda tensors, metadata: None)(checkpoint.path)
    assert restored(checkpoint, run) == (3, [])
    older = '{"step": 3, "skipped": 0, "skipped_in_a_row": 0, "seconds": 1, "collapsed": false, "run_id": ""}'
    progress(older)(checkpoint.path)
    assert restored(checkpoint, run) == (3, [])


def test_a_state_of_another_training_is_refused_and_stays(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    Checkpoint(path, {"seed": 1, "width": 2}).save(state_of(run, step=3), [])
    DAMAGE["a tensor of another shape"](path)  # of another configuration, this is no damage
    with pytest.raises(CheckpointError, match=r"another training: seed is 1 in the file and 2 now\. Remedy"):
        restored(Checkpoint(path, {"seed": 2, "width": 2}), run)
    assert path.exists()


def test_a_state_that_cannot_be_read_is_not_taken_for_damaged(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    path.mkdir()
    with pytest.raises(CheckpointError, match=r"cannot be read.*start the same command again"):
        restored(Checkpoint(path), run)
    assert path.exists()


class Watcher(Observer):
    """Remembers warnings; asks to stop after `stop_after` steps."""

    def __init__(self, stop_after: int) -> None:
        self.step, self.stop_after = 0, stop_after
        self.begun, self.warned = -1, []

    def restored(self, step: int) -> None:
        self.step = self.begun = step

    def warning(self, step: int, name: str, text: str) -> None:
        self.warned.append((step, name))

    def progress(self, step: int, steps: int, text: str) -> None:
        self.step = step

    def should_stop(self) -> bool:
        return self.step >= self.stop_after


def sitting(
    run: Run, shards: data.Shards, folder: Path, stop_after: int = 100
) -> tuple[Watcher, dict[str, torch.Tensor]]:
    folder.mkdir(exist_ok=True)
    codec, watcher = run.codec(), Watcher(stop_after)
    snapshots = latent_snapshots(codec, run, shards.split("validation"), folder)
    with contextlib.suppress(Interrupted):
        train(
            codec,
            run.train,
            train_split=shards.training(),
            validation_split=shards.split("validation"),
            seed=run.seed,
            fabric=distributed.single(CPU),
            checkpoint=Checkpoint(folder / "state.safetensors", run.training_identity),
            observers=[watcher, *snapshots],
        )
    return watcher, codec.state_dict()


def test_a_training_goes_on_from_a_damaged_state_to_the_same_weights(
    run: Run, shards: data.Shards, tmp_path: Path
) -> None:
    _, whole = sitting(run, shards, tmp_path / "whole")
    parts = tmp_path / "parts"
    sitting(run, shards, parts, stop_after=5)
    flip(parts / "state.safetensors")
    again, _ = sitting(run, shards, parts, stop_after=7)
    assert (again.begun, again.warned) == (4, [(4, "checkpoint")])
    for path in Checkpoint(parts / "state.safetensors").generations:
        cut(path)
    last, weights = sitting(run, shards, parts)
    assert (last.begun, last.warned) == (0, [(0, "checkpoint")])
    assert [name for name, value in whole.items() if not torch.equal(value, weights[name])] == []
    snapshots = [dict(np.load(tmp_path / name / SNAPSHOTS)) for name in ("whole", "parts")]
    for name, value in snapshots[0].items():
        np.testing.assert_array_equal(value, snapshots[1][name])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def without_pairs(path: Path) -> None:
    np.savez(path.with_suffix(""), steps=np.arange(3), pair_0=np.zeros((2, 5, 2)))


def with_objects(path: Path) -> None:
    np.savez(path.with_suffix(""), steps=np.array([_Marker(path.parent / "executed")], object))


@pytest.mark.parametrize("damage", [empty, truncate, flip, without_pairs, with_objects, fill_with_a_pickle])
def test_damaged_snapshots_do_not_stop_a_training(
    damage: Callable[[Path], None], run: Run, shards: data.Shards, tmp_path: Path
) -> None:
    sitting(run, shards, tmp_path, stop_after=3)
    damage(tmp_path / SNAPSHOTS)
    last, _ = sitting(run, shards, tmp_path)
    assert last.step == 8
    with np.load(tmp_path / SNAPSHOTS) as archive:
        assert archive["steps"].tolist()[-1] == 8
    assert not (tmp_path / "executed").exists()


def test_the_configuration_of_a_state_can_be_read_by_anyone(run: Run, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "state.safetensors", run.training_identity, "an MLflow run")
    checkpoint.save(state_of(run, step=3, run_id="an MLflow run"), [])
    with safe_open(checkpoint.path, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["configuration"]) == json.loads(json.dumps(run.training_identity))
    assert json.loads(metadata["progress"])["run_id"] == "an MLflow run"
