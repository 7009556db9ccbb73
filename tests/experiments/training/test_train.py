import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from codec.model import Codec
from experiments import data
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.studies.sections import Train
from experiments.training import distributed, validation
from experiments.training.checkpoint import Checkpoint, CheckpointError
from experiments.training.loop import train
from experiments.training.observer import Diverged, Interrupted, Observer, Trained
from experiments.training.optimizers import schedule
from experiments.training.state import TrainingState, initial_state


class Watcher(Observer):
    """Remembers what a training tells; asks it to stop after `stop_after` steps."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.logged: dict[int, dict[str, float]] = {}
        self.warned: list[tuple[int, str, str]] = []
        self.steps = 0
        self.stop_after = stop_after

    def restored(self, step: int) -> None:
        self.steps = step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.logged.setdefault(step, {}).update(values)

    def warning(self, step: int, name: str, text: str) -> None:
        self.warned.append((step, name, text))

    def progress(self, step: int, steps: int, text: str) -> None:
        self.steps = step

    def should_stop(self) -> bool:
        return self.stop_after is not None and self.steps >= self.stop_after


@pytest.fixture(scope="module")
def shards(speech: Path, tmp_path_factory: pytest.TempPathFactory) -> data.Shards:
    torch.set_num_threads(1)
    return data.prepare(f"manifest:{speech}", sample_rate=16_000, cache=tmp_path_factory.mktemp("shards"))


def make_run(shards: data.Shards, quantizer: str, *overrides: str) -> Run:
    small = study.load(
        "quickstart",
        [
            f"quantizers=[{quantizer}]",
            "backbone.options={width: 32, blocks: 1}",
            "train={steps: 8, batch_size: 4, warmup_steps: 2, log_every: 1, validate_every: 4, "
            "checkpoint_every: 3}",
            *overrides,
        ],
    )
    corpus = CorpusIdentity(spec="", name="", content_hash=shards.content_hash, synthetic=True)
    return runs.expand(small, corpus)[0]


def go(run: Run, shards: data.Shards, folder: Path, watcher: Watcher) -> tuple[Codec, Trained]:
    codec = run.codec()
    trained = train(
        codec,
        run.train,
        train_split=shards.split("train"),
        validation_split=shards.split("validation"),
        seed=run.seed,
        fabric=distributed.single(torch.device("cpu")),
        checkpoint=Checkpoint(folder / "state.safetensors", run.training_identity),
        observers=[watcher],
    )
    return codec, trained


@pytest.mark.parametrize("quantizer", ["none", "vq", "rvq", "q2d2-hex"])
def test_a_stopped_training_goes_on_bit_for_bit(quantizer: str, shards: data.Shards, tmp_path: Path) -> None:
    run = make_run(shards, quantizer)
    whole, straight = go(run, shards, tmp_path / "whole", Watcher())
    watcher = Watcher(stop_after=3)
    with pytest.raises(Interrupted, match="after step 3"):
        go(run, shards, tmp_path / "parts", watcher)
    torch.manual_seed(99)  # what happens between the sittings must not matter
    later = Watcher()
    parts, resumed = go(run, shards, tmp_path / "parts", later)
    assert resumed.steps == straight.steps == 8
    assert resumed.audio_seconds == straight.audio_seconds
    assert min(later.logged) == 4
    mine, theirs = parts.state_dict(), whole.state_dict()
    assert [key for key in theirs if not torch.equal(mine[key], theirs[key])] == []


def test_a_device_of_another_precision_is_told(
    shards: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(shards, "fsq")
    has = {"bf16": False}
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: has["bf16"])
    with pytest.raises(Interrupted):
        go(run, shards, tmp_path, Watcher(stop_after=3))
    has["bf16"] = True  # a worker of another kind takes the training over
    watcher = Watcher()
    _, trained = go(run, shards, tmp_path, watcher)
    assert trained.precision == "fp32 then bf16"
    assert "precision" in [name for _, name, _ in watcher.warned]
    assert go(run, shards, tmp_path / "other", Watcher())[1].precision == "bf16"


def test_training_learns_and_validates(shards: data.Shards, tmp_path: Path) -> None:
    watcher = Watcher()
    go(make_run(shards, "none", "train.steps=40", "train.validate_every=10"), shards, tmp_path, watcher)
    losses = [values["validation/loss"] for values in watcher.logged.values() if "validation/loss" in values]
    assert len(losses) == 4
    assert losses[-1] < 0.8 * losses[0]
    assert {"train/loss", "train/mel", "train/complex", "train/gradient_norm"} <= set(watcher.logged[40])


def test_all_bottlenecks_hear_the_same_crops(shards: data.Shards, tmp_path: Path) -> None:
    """With equal weights and the bottleneck cut out of the loss, the first gradients must agree."""
    heard: dict[str, list[float]] = {}
    for quantizer in ("vq", "fsq"):
        seen: list[float] = []
        codec = make_run(shards, quantizer).codec()
        codec.encoder.register_forward_pre_hook(lambda _, inputs, s=seen: s.append(inputs[0].sum().item()))
        run = make_run(shards, quantizer)
        train(
            codec,
            run.train,
            train_split=shards.split("train"),
            validation_split=shards.split("validation"),
            seed=0,
            fabric=distributed.single(torch.device("cpu")),
            checkpoint=Checkpoint(tmp_path / quantizer),
        )
        heard[quantizer] = seen
    assert heard["vq"] == heard["fsq"]
    assert len(set(heard["vq"])) >= 8


def test_a_loss_that_is_not_finite_ends_as_diverged(shards: data.Shards, tmp_path: Path) -> None:
    run = make_run(shards, "none", "train.non_finite_limit=3")
    codec = run.codec()
    with torch.no_grad():
        codec.decoder.get_parameter("project_out.bias").fill_(float("nan"))
    watcher = Watcher()
    with pytest.raises(Diverged, match="3 steps in a row up to step 2"):
        train(
            codec,
            run.train,
            train_split=shards.split("train"),
            validation_split=shards.split("validation"),
            seed=0,
            fabric=distributed.single(torch.device("cpu")),
            checkpoint=Checkpoint(tmp_path / "state"),
            observers=[watcher],
        )
    assert watcher.logged[2]["train/skipped_batches"] == 3.0


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("quantizer", ["none", "vq", "q2d2-hex"])
def test_weights_that_are_not_finite_at_the_end_are_diverged(
    quantizer: str, average: float, shards: data.Shards, tmp_path: Path
) -> None:
    """The last update broke them: no later batch is there to tell."""
    run = make_run(shards, quantizer)
    limits = {"steps": 3, "validate_every": 3, "learning_rate": float("inf"), "ema_decay": average}
    run = dataclasses.replace(run, train=run.train.model_copy(update=limits))
    watcher = Watcher()
    with pytest.raises(Diverged, match=r"the weights are not finite at step 3 \(.*and \d+ others\); a lower"):
        go(run, shards, tmp_path, watcher)
    assert "validation/loss" not in watcher.logged.get(3, {})


def test_trained_weights_that_are_not_finite_are_not_used(shards: data.Shards) -> None:
    codec = make_run(shards, "vq").codec()
    validation.check_finite(codec, 8)
    codec.quantizer.get_buffer("codebooks.codes")[0, 0, 0] = float("nan")
    with pytest.raises(Diverged, match=r"at step 8 \(quantizer.codebooks.codes\)"):
        validation.check_finite(codec, 8)


def test_the_learning_rate_rises_and_falls() -> None:
    config = Train(steps=100, warmup_steps=10, final_learning_rate=0.05)
    values = [schedule(step, config) for step in range(100)]
    assert values[0] == pytest.approx(0.1)
    assert max(values) == values[9] == pytest.approx(0.91)
    assert values[50] == pytest.approx(0.5)
    assert min(values[10:]) == values[-1] == 0.05
    cosine = config.model_copy(update={"schedule": "cosine", "warmup_steps": 0, "final_learning_rate": 0.1})
    assert [schedule(step, cosine) for step in (0, 50, 100)] == pytest.approx([1.0, 0.55, 0.1])


def small_state(run: Run, **counters: int) -> TrainingState:
    state = initial_state(run.codec(), run.train, seed=0, device=torch.device("cpu"))
    for name, value in counters.items():
        setattr(state, name, value)
    return state


def test_a_full_disk_keeps_the_last_good_state(shards: data.Shards, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="needs limits on file sizes")
    run = make_run(shards, "vq")
    checkpoint = Checkpoint(tmp_path / "state.safetensors")
    checkpoint.save(small_state(run, step=1), [])
    before = checkpoint.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match=r"The last good one is kept.*make room on the disk"):
            checkpoint.save(small_state(run, step=2), [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [checkpoint.path.name]
