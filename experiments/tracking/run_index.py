"""Runs that a tracking store knows, of all studies: read in a fraction of a second where it is a file."""

from dataclasses import dataclass, field

from experiments.tracking.addresses import check, sqlite_path
from experiments.tracking.reader import reader
from experiments.tracking.schema import KIND_RUN, TAG
from experiments.tracking.stored import Reader

_METRICS = ("cost/%", "eval/%_asked")


@dataclass(frozen=True)
class KnownRun:
    """One run: its tags without `codecbench.`, its parameters as text, its costs and counts."""

    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    study: str = ""  # that it was first part of

    @property
    def hash(self) -> str:
        """Identity of the run."""
        return self.tags.get("run_hash", "")

    @property
    def status(self) -> str:
        """`running`, `finished`, `failed` or `diverged`."""
        return self.tags.get("status", "")


def read(uri: str) -> list[KnownRun]:
    """All runs in the store, of every study; none where there is no store yet. Raises TrackingError."""
    check(uri)
    path = sqlite_path(uri)
    if path is not None and (not path.exists() or path.stat().st_size == 0):
        return []
    return known(reader(uri))


def known(store: Reader) -> list[KnownRun]:
    """All runs that `store` reads. Raises TrackingError."""
    studies = {one.experiment_id: one.name for one in store.experiments()}
    return [
        KnownRun(
            {k.removeprefix(TAG): value for k, value in run.data.tags.items() if k.startswith(TAG)},
            run.data.params,
            {k: v for k, v in run.data.metrics.items() if k.startswith("cost/") or k.endswith("_asked")},
            studies[run.info.experiment_id],
        )
        for run in store.runs(list(studies), {"kind": (KIND_RUN,)}, metrics=_METRICS)
    ]
