"""`run --mirror`: TensorBoard and Weights & Biases get what the tracking store gets, and can do no harm."""

import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import analysis
from experiments.execution.job_observers import MirrorObserver
from experiments.tracking.mirrors.contract import MirroredRun, MirrorError
from experiments.tracking.mirrors.mirroring import Mirrors, destination, mirrored
from experiments.training.observer import log_metrics

Finished = tuple[Path, int, list[str]]
RUN = MirroredRun(study="a/b", name="fsq [v2] seed 0", identity="0123456789abcdef", config={"seed": 0})


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Values by tag and step, as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]
    }


def test_each_run_of_a_study_has_its_curves_and_scores(finished: Finished) -> None:
    pytest.importorskip("tensorboard")
    results = analysis.load("tiny", f"sqlite:///{finished[0] / 'mlflow.db'}")
    folders = sorted((finished[0] / "events" / "tiny").iterdir())
    assert [folder.name.rpartition("-")[0] for folder in folders] == [
        "fsq-v2-seed-0",
        "hex-edge-with-a-long-name-seed-0",
    ]
    for folder in folders:
        (run,) = [run for run in results.runs.to_dict("records") if run["run_id"][:8] == folder.name[-8:]]
        shown = scalars(folder)
        logged = results.histories[results.histories["run_id"] == run["run_id"]]
        assert len(logged) > 10
        for point in logged[logged["step"] > 0].to_dict("records"):  # at 0 are final values
            assert shown[point["metric"]][point["step"]] == pytest.approx(point["value"], rel=1e-6)
        assert shown["eval/mel_distance"] == {30: pytest.approx(run["eval/mel_distance"], rel=1e-6)}
        assert shown["rate/bitrate"] == {30: pytest.approx(run["rate/bitrate"], rel=1e-6)}


def test_a_resumed_training_hides_what_it_does_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    chosen = destination(f"tensorboard:{tmp_path}")
    chosen.check()
    for begin, steps in ((0, (10, 20, 30)), (20, (30, 40))):
        mirrors = Mirrors([chosen], RUN, pytest.fail)
        observer = MirrorObserver(mirrors)
        observer.restored(begin)
        for step in steps:
            log_metrics([observer], step, {"train/loss": step + begin / 100})
        mirrors.close(finished=False)
    (folder,) = (tmp_path / "a-b").iterdir()
    assert folder.name == "fsq-v2-seed-0-01234567"
    assert scalars(folder)["train/loss"] == {
        10: 10.0,
        20: 20.0,
        30: pytest.approx(30.2),
        40: pytest.approx(40.2),
    }


def records_of(content: bytes) -> Iterator[bytes]:
    """Records of a file that `wandb sync` sends: after 7 bytes, blocks of 32 KiB as in LevelDB's log.

    A part has a checksum of 4 bytes, a length of 2, a type of 1: whole, first, middle or last part.
    """
    block, place, parts = 1 << 15, 7, b""
    while place + 7 <= len(content):
        if block - place % block < 7:
            place += block - place % block
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_weights_and_biases_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()  # what an earlier test set up
    chosen = destination("wandb:a-project")
    chosen.check()
    with mirrored([chosen], RUN, pytest.fail) as mirrors:
        mirrors.begin(0)
        mirrors.metrics(10, {"train/loss": 2.5, "validation/loss": math.nan})
        mirrors.scores(20, {"eval/pesq": 1.5})
    wandb.teardown()
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    rows, runs = [], []
    for data in records_of(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append(
                {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items}
            )
        elif record.WhichOneof("record_type") == "run":
            runs.append(record.run)
    assert (runs[0].project, runs[0].run_group, runs[0].run_id) == ("a-project", "a/b", RUN.identity)
    assert runs[0].display_name == RUN.name
    assert [(row["step"], row.get("train/loss"), row.get("eval/pesq")) for row in rows] == [
        (10, 2.5, None),
        (20, None, 1.5),
    ]


class Broken:
    """A destination whose runs fail at one of their methods."""

    def __init__(self, at: str) -> None:
        self.at, self.calls = at, list[str]()

    def check(self) -> None:
        return

    def open(self, run: MirroredRun, step: int) -> "Broken":
        self._call("open")
        return self

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self._call("metrics")

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        self._call("scores")

    def close(self, finished: bool) -> None:
        self._call("close")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.at:
            raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("at", "calls"),
    [
        ("open", ["open"]),
        ("metrics", ["open", "metrics"]),
        ("scores", ["open", "metrics", "metrics", "scores"]),
        ("close", ["open", "metrics", "metrics", "scores", "close"]),
    ],
)
def test_a_failing_mirror_warns_once_and_leaves_the_others(at: str, calls: list[str]) -> None:
    broken, whole = Broken(at), Broken("")
    warnings: list[str] = []
    with mirrored([broken, whole], RUN, warnings.append) as mirrors:
        mirrors.begin(0)
        for step in (1, 2):
            mirrors.metrics(step, {"train/loss": 1.0})
        mirrors.scores(2, {"eval/pesq": 2.0})
    assert broken.calls == calls
    assert whole.calls == ["open", "metrics", "metrics", "scores", "close"]
    (warning,) = warnings
    assert warning == "no more metrics go to the mirror Broken: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("tensorbord:x", "no such mirror; known: tensorboard:DIR"),
        ("tensorboard", "write it as tensorboard:DIR"),
        ("wandb:", "write it as wandb:PROJECT"),
        ("wandb:a/b", "a project's name"),
    ],
)
def test_addresses_that_cannot_be(address: str, message: str) -> None:
    with pytest.raises(MirrorError, match=message):
        destination(address)


def test_what_is_missing_is_told_before_any_work(command: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from experiments.tracking.mirrors import tensorboard, wandb

    for module in (tensorboard, wandb):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    for address, extra in ((f"tensorboard:{tmp_path / 'events'}", "tensorboard"), ("wandb:p", "wandb")):
        done = command("run", "quickstart", "--mirror", address, code=2)
        assert f"pip install 'codecbench[{extra}]'" in done.stderr
    assert not (tmp_path / "events").exists()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "file").write_text("")
    with pytest.raises(MirrorError, match="name another folder"):
        destination(f"tensorboard:{tmp_path / 'file'}").check()


def test_without_a_key_wandb_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    wandb.teardown()
    with pytest.raises(MirrorError, match="wandb login"):
        destination("wandb:p").check()
    wandb.teardown()
