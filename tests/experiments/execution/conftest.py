"""A store, a tiny run and a link that remembers, for work in this very process."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from experiments.data import prepare
from experiments.execution.jobs import Settings, Update
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity, Run
from experiments.tracking.store import Store


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
def identify() -> Callable[[str], CorpusIdentity]:
    def identity(spec: str) -> CorpusIdentity:
        shards = prepare(spec, sample_rate=16_000)
        return CorpusIdentity(spec=spec, name=shards.name, content_hash=shards.content_hash, synthetic=True)

    return identity


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
