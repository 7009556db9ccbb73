"""A store, a tiny run and a link that remembers, for work in this very process."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from experiments.execution.jobs import Settings, Update
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.tracking.store import Store

# Of MLflow's own tags and ours, what is not the same in two stores.
VOLATILE = ("mlflow.", "codecbench.git_")


class Recorder:
    """A link that keeps what it is told; `hear` may act on it, `stop` asks the work to stop."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.hear: Callable[[Update], None] = lambda update: None
        self.stop = False

    def tell(self, update: Update) -> None:
        self.updates.append(update)
        self.hear(update)

    def stopping(self) -> bool:
        return self.stop

    @property
    def warnings(self) -> list[str]:
        return [update.stage for update in self.updates if update.stage.startswith("warning")]


@pytest.fixture
def link() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Store(f"sqlite:///{folder}/mlflow.db", "tiny")


@pytest.fixture(scope="session")
def tiny(speech: Path, identify: Callable[[str], CorpusIdentity]) -> Run:
    """A run of four steps after a warm start of two."""
    asked = study.load(
        "quickstart",
        [
            *("quantizers=[fsq]", "bits=9", f"data=manifest:{speech}"),
            "backbone.options={width: 16, blocks: 1}",
            "train={steps: 4, batch_size: 2, crop_seconds: 0.25, warmup_steps: 1, log_every: 1, "
            "checkpoint_every: 1, warm_start: {steps: 2}}",
            "evaluate={metrics: [mel_distance], audio_examples: 0, snapshots: 3}",
        ],
    )
    return runs.expand(asked, identify(f"manifest:{speech}"))[0]


@pytest.fixture
def settings(store: Store, tmp_path: Path) -> Settings:
    return Settings(store_uri=store.uri, study=store.study, parent_id="parent", directory=tmp_path / "runs")


@pytest.fixture(scope="session")
def logged() -> Callable[[Path], dict[tuple[str, str], Any]]:
    """All that is in the store of a folder."""
    return _logged


@pytest.fixture(scope="session")
def differences() -> Callable[..., Iterator[Any]]:
    """Where two nested dictionaries differ."""
    return _differences


def _logged(folder: Path) -> dict[tuple[str, str], Any]:
    """All that is in the store, but for times, places and ids."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    found: dict[tuple[str, str], Any] = {}
    for experiment in client.search_experiments():
        assert not [tag for tag in experiment.tags if "lease" in tag]
        for run in client.search_runs([experiment.experiment_id]):
            tags = {key: value for key, value in run.data.tags.items() if not key.startswith(VOLATILE)}
            identity = tags["codecbench.kind"], tags.get("codecbench.run_hash", "")
            assert identity not in found, f"{identity} is there twice"
            found[identity] = {
                "status": run.info.status,
                "tags": tags,
                "params": run.data.params,
                "metrics": {
                    key: [
                        (point.step, point.value) for point in client.get_metric_history(run.info.run_id, key)
                    ]
                    for key in run.data.metrics
                    if not key.startswith(("cost/", "system/")) and "per_second" not in key
                },
                "artifacts": sorted(_artifacts(client, run.info.run_id, "")),
                "inputs": [one.dataset.digest for one in run.inputs.dataset_inputs],
            }
    return found


def _differences(mine: dict[Any, Any], theirs: dict[Any, Any], at: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Where two nested dictionaries differ, and how."""
    for key in mine.keys() | theirs.keys():
        one, other = mine.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _differences(one, other, (*at, key))
        elif one != other:
            yield (*at, key), one, other


def _artifacts(client: MlflowClient, run_id: str, folder: str) -> Iterator[str]:
    for entry in client.list_artifacts(run_id, folder):
        if entry.is_dir:
            yield from _artifacts(client, run_id, entry.path)
        else:
            yield entry.path
