"""A run that is tracked on a real MLflow server, which is killed and started again while the run goes on."""

import dataclasses
import importlib.util
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.figures.writing import write_all
from benchmarks.mlflow_server import MlflowServer
from experiments.data import prepare
from experiments.execution import worker
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.tracking import journal as metrics_journal
from experiments.tracking.models import logged_model, trained_codecs
from experiments.tracking.schema import FINISHED, KIND_RUN
from experiments.tracking.store import Store, TrackingError

pytestmark = pytest.mark.slow
STEPS = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def run(small_study: str, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("study") / "small.yaml"
    path.write_text(small_study)
    asked = study.load(
        str(path),
        ["quantizers=[q2d2-hex]", f"train.steps={STEPS}", "train.warm_start=null", "train.log_every=1"],
    )
    shards = prepare(asked.data.corpus, sample_rate=runs.sample_rate(asked))
    identity = CorpusIdentity(
        spec=asked.data.corpus, name=shards.name, content_hash=shards.content_hash, synthetic=False
    )
    return runs.expand(asked, identity)[0]


class Sitting(threading.Thread):
    """A worker at work on one run, as in a process of its own; `until` waits for what it tells."""

    def __init__(self, run: Run, study: str, server: MlflowServer, folder: Path) -> None:
        super().__init__(daemon=True)
        self.run_ = dataclasses.replace(run, study=study)
        store = Store(server.uri, study)
        for before in store.search_everywhere(run_hash=self.run_.hash):  # another study's is not to be reused
            if before.info.experiment_id != store.experiment_id:
                store.set_tags(before.info.run_id, {"codecbench.superseded": "true"})
        parent = store.start(study, {}, match={"kind": "study", "study_hash": "test"})
        self.settings = worker.Settings(
            store_uri=server.uri, study=study, parent_id=parent, directory=folder / study
        )
        self.updates: Any = queue.Queue()
        self.stop: Any = threading.Event()
        self.outcome: worker.Outcome | None = None

    def run(self) -> None:
        self.outcome = worker.perform(worker.Job(run=self.run_), self.settings, self)

    def tell(self, update: worker.Update) -> None:
        self.updates.put(update)

    def stopping(self) -> bool:
        return self.stop.is_set()

    def until(self, stage: str, done: int) -> None:
        while True:
            update = self.updates.get(timeout=120)
            if update.stage == stage and update.done >= done:
                return

    def end(self) -> worker.Outcome:
        self.join(120)
        assert self.outcome is not None
        return self.outcome


@pytest.fixture(scope="module")
def undisturbed(run: Run, server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    sitting = Sitting(run, "undisturbed", server, tmp_path_factory.mktemp("runs"))
    sitting.start()
    assert sitting.end().status == FINISHED
    return all_of(server, "undisturbed")


def all_of(server: MlflowServer, study: str) -> dict[str, Any]:
    """All that MLflow holds of the only run of a study, but for times."""
    store = Store(server.uri, study)
    (found,) = store.search(kind=KIND_RUN)
    client, run_id = store.client, str(found.info.run_id)
    timed = ("cost/", "system/", "train/steps_per_second", "train/audio_seconds_per_second")
    points = {
        key: [(point.step, point.value) for point in client.get_metric_history(run_id, key)]
        for key in found.data.metrics
    }
    (output,) = found.outputs.model_outputs
    model = client.get_logged_model(output.model_id)
    return {
        "status": found.info.status,
        "points": {key: values for key, values in points.items() if not key.startswith(timed)},
        "steps": {key: [step for step, _ in v] for key, v in points.items() if key.startswith("train/")},
        "names": sorted(points),
        "artifacts": sorted(entry.path for entry in client.list_artifacts(run_id)),
        "model": (model.name, str(model.status), model.source_run_id == run_id, model.params),
        "model files": sorted(e.path for e in client.list_logged_model_artifacts(output.model_id)),
        "model metrics": {
            metric.key: metric.value for metric in model.metrics if not metric.key.startswith("cost/")
        },
    }


@pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")  # of MLflow, about a class of its own
def test_a_run_has_curves_system_metrics_and_a_model_with_a_signature(
    undisturbed: dict[str, Any], server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert undisturbed["steps"]["train/loss"] == list(range(1, STEPS + 1))
    assert {"system/cpu_utilization_percentage", "system/process_memory_usage_megabytes"} <= set(
        undisturbed["names"]
    )
    assert undisturbed["model files"] == ["MLmodel", "codec.safetensors"]
    points = {key: values[-1][1] for key, values in undisturbed["points"].items()}
    assert undisturbed["model metrics"]["eval/stoi"] == points["eval/stoi"]
    store = Store(server.uri, "undisturbed")
    (model,) = store.client.search_logged_models([store.experiment_id])
    from mlflow.artifacts import download_artifacts
    from mlflow.models import Model
    from safetensors import safe_open

    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)  # all that MLflow asks about a models:/ address
    local = Path(download_artifacts(f"models:/{model.model_id}", dst_path=str(tmp_path)))
    assert Model.load(str(local / "MLmodel")).signature == logged_model.signature()
    with safe_open(local / logged_model.WEIGHTS, framework="pt") as file:
        assert "config" in file.metadata()
        assert len(file.keys()) > 10
    import mlflow
    import torch

    loaded = mlflow.pyfunc.load_model(str(local))
    codec = trained_codecs.load_codec(local / logged_model.WEIGHTS)
    audio = 0.1 * torch.randn(1, 1600, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.from_numpy(loaded.predict(audio.numpy())), codec.reconstruct(audio))
    assert torch.equal(loaded.get_raw_model().encode(audio), codec.encode(audio))


def picture_script() -> Any:
    """docs/make_mlflow_pictures.py, which knows its way about the UI."""
    path = Path(__file__).parents[3] / "docs" / "make_mlflow_pictures.py"
    spec = importlib.util.spec_from_file_location("make_mlflow_pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_ui_shows_the_study_its_runs_its_models_and_its_figures(
    undisturbed: dict[str, Any], server: MlflowServer, tmp_path: Path
) -> None:
    pytest.importorskip("selenium")
    ui = picture_script()
    if ui.chromium() is None:
        pytest.skip("needs chromium and chromedriver on the path")
    results = load("undisturbed", server.uri)
    write_all(results, tmp_path, formats=("png",))
    store = Store(server.uri, "undisturbed")
    (parent,) = store.search(kind="study")
    store.log_files(parent.info.run_id, tmp_path, "figures")
    with ui.browser() as driver:
        driver.get(f"{server.uri}/#/experiments")
        shown = ui.StudyInTheUi(driver, server.uri, "undisturbed")
        shown.find("//a[normalize-space()='undisturbed']")  # the experiment
        shown.list_of_runs()
        shown.find("//a[normalize-space()='undisturbed']")  # the parent, and below it:
        (child,) = shown.runs
        shown.find(f"//a[normalize-space()='{child}']")
        shown.models()
        shown.find("//a[normalize-space()='q2d2-hex-seed-0']")
        image = shown.figure("figures/voronoi-q2d2-hex.png")
        width = "return arguments[0].naturalWidth"
        for _ in range(100):
            if driver.execute_script(width, image) > 0:
                break
            time.sleep(0.1)
        assert driver.execute_script(width, image) > 500  # drawn, not a broken link


def test_a_server_that_goes_away_while_a_run_trains_and_while_it_is_logged_loses_nothing(
    run: Run,
    server: MlflowServer,
    undisturbed: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # away within milliseconds, not seconds
    monkeypatch.setattr(metrics_journal, "RETRY_SECONDS", 0.5)
    sitting = Sitting(run, "stormy", server, tmp_path)
    sitting.start()
    sitting.until("training", 10)
    server.kill()
    sitting.until("training", STEPS)
    time.sleep(1)
    assert sitting.is_alive()  # it waits
    server.start()
    sitting.until("scoring", 1)
    server.kill()
    sitting.until("logging", 0)
    time.sleep(1)
    assert sitting.is_alive()
    server.start()
    assert sitting.end().status == FINISHED
    assert all_of(server, "stormy") == undisturbed


def test_a_run_stopped_and_started_again_is_the_same_run_of_the_server(
    run: Run, server: MlflowServer, undisturbed: dict[str, Any], tmp_path: Path
) -> None:
    sitting = Sitting(run, "stopped", server, tmp_path)
    sitting.start()
    sitting.until("training", 15)
    sitting.stop.set()
    assert sitting.end().status == worker.STOPPED
    store = Store(server.uri, "stopped")
    (paused,) = store.search(kind=KIND_RUN)
    assert paused.info.status == "KILLED"
    again = Sitting(run, "stopped", server, tmp_path)
    again.start()
    assert again.end().status == FINISHED
    (ended,) = store.search(kind=KIND_RUN)
    assert ended.info.run_id == paused.info.run_id
    assert all_of(server, "stopped") == undisturbed


def test_who_does_not_want_to_wait_for_a_server_does_not(
    server: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    asked = []
    store = Store(server.uri, "patience", give_up=lambda: len(asked) >= 2)
    store.client = type(store.client)("http://127.0.0.1:9")

    def ask() -> None:
        asked.append(1)
        store.client.search_experiments()

    with pytest.raises(TrackingError, match="does not answer"):
        store.patiently(ask)
    assert len(asked) == 2
    monkeypatch.setenv("CODECBENCH_TRACKING_PATIENCE", "soon")
    with pytest.raises(TrackingError, match="a number of seconds, such as 300"):
        Store(server.uri, "patience")
