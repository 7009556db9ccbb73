from pathlib import Path

import numpy as np
import pytest
import torch

import quantizers
from experiments import data
from experiments.common.run_folder import SNAPSHOTS
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.training import distributed
from experiments.training import latent_snapshots as snapshots
from experiments.training.checkpoint import Checkpoint
from experiments.training.latent_snapshots import latent_snapshots, spaced
from experiments.training.loop import train
from experiments.training.observer import Interrupted, Observer


@pytest.fixture(scope="module")
def shards(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000, cache=tmp_path_factory.mktemp("shards"))


def make_run(shards: data.Shards, quantizer: str, number: int = 4) -> Run:
    small = study.load(
        "quickstart",
        [
            *(f"quantizers=[{quantizer}]", "bits=12"),
            "backbone.options={width: 32, blocks: 1}",
            "train={steps: 9, batch_size: 4, warmup_steps: 2, checkpoint_every: 3}",
            f"evaluate.snapshots={number}",
        ],
    )
    corpus = CorpusIdentity(spec="", name="", content_hash=shards.content_hash, synthetic=True)
    return runs.expand(small, corpus)[0]


class Stopping(Observer):
    """Asks the training to stop after `stop_after` steps."""

    def __init__(self, stop_after: int) -> None:
        self.stop_after, self.steps = stop_after, 0

    def progress(self, step: int, steps: int, text: str) -> None:
        self.steps = step

    def should_stop(self) -> bool:
        return self.steps >= self.stop_after


def go(
    run: Run, shards: data.Shards, folder: Path, *, keep: bool = True, stop: int = 10**9
) -> dict[str, torch.Tensor]:
    codec = run.codec()
    observers: list[Observer] = [Stopping(stop)]
    if keep:
        observers += latent_snapshots(codec, run, shards.split("validation"), folder)
    train(
        codec,
        run.train,
        train_split=shards.split("train"),
        validation_split=shards.split("validation"),
        seed=run.seed,
        fabric=distributed.single(torch.device("cpu")),
        checkpoint=Checkpoint(folder / "state.safetensors", run.training_identity),
        observers=observers,
    )
    return codec.state_dict()


def read(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / SNAPSHOTS) as archive:
        return {name: archive[name] for name in archive.files}


def test_snapshots_change_nothing_and_survive_an_interruption(shards: data.Shards, tmp_path: Path) -> None:
    run = make_run(shards, "q2d2-hex")
    folders = [tmp_path / name for name in ("whole", "parted", "none")]
    for folder in folders:
        folder.mkdir()
    whole = go(run, shards, folders[0])
    for stop in (1, 5):
        with pytest.raises(Interrupted):
            go(run, shards, folders[1], stop=stop)
    parted = go(run, shards, folders[1])
    without = go(run, shards, folders[2], keep=False)
    for name, tensor in whole.items():
        assert torch.equal(tensor, parted[name]), name
        assert torch.equal(tensor, without[name]), name
    first, second = read(folders[0]), read(folders[1])
    assert first["steps"].tolist() == [0, 1, 4, 9]
    assert first["pair_0"].shape[2] == 2
    assert first["pair_0"].shape[1] <= snapshots.POINTS
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])
    assert not np.array_equal(first["pair_0"][0], first["pair_0"][3])
    assert not (folders[2] / SNAPSHOTS).exists()


@pytest.mark.parametrize("quantizer", ["none", "vq"])
def test_without_coordinates_there_is_no_file(quantizer: str, shards: data.Shards, tmp_path: Path) -> None:
    go(make_run(shards, quantizer), shards, tmp_path)
    assert not (tmp_path / SNAPSHOTS).exists()


@pytest.mark.parametrize(
    "quantizer", [name for name in quantizers.available() if quantizers.entry(name).cls.learned]
)
def test_learned_codebooks_are_not_run_on_validation_audio(
    quantizer: str, shards: data.Shards, tmp_path: Path
) -> None:
    run = make_run(shards, quantizer)
    codec = run.codec()
    codec.quantizer.register_forward_hook(lambda *_: pytest.fail("it was run"))
    for observer in latent_snapshots(codec, run, shards.split("validation"), tmp_path):
        observer.restored(0)
    assert not list(tmp_path.iterdir())


def test_how_many_is_no_part_of_a_result(shards: data.Shards) -> None:
    assert make_run(shards, "fsq", 0).hash == make_run(shards, "fsq", 9).hash
    run = make_run(shards, "fsq", 0)
    assert latent_snapshots(run.codec(), run, shards.split("validation"), Path()) == []


def test_steps() -> None:
    assert spaced(0, 100) == set()
    assert spaced(1, 100) == {100}
    assert spaced(5, 100) == {0, 6, 25, 56, 100}
    assert spaced(8, 3) == {0, 1, 2, 3}
