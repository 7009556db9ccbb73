"""What a study will do, worked out without training anything: runs, rates, what is finished, hours.

The rates are the live modules'. Building those needs torch, which takes seconds to import, so what was worked
out is kept in the cache for as long as neither the study nor the code changes; then a plan imports no torch.
"""

import hashlib
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

from experiments import known_runs, runs, step_costs, study_files
from experiments.known_runs import KnownRun
from experiments.step_costs import Costs
from experiments.study import Study, check
from experiments.tracking_schema import DIVERGED, FAILED, FINISHED, flatten

_CODE = ("quantizers", "codec", "experiments")  # packages that decide runs and rates
_KEPT = 50  # plans kept in the cache
TO_DO = "to do"


@dataclass(frozen=True, kw_only=True)
class PlannedCorpus:
    """A corpus at a sample rate in Hz. `content_hash`, `summary`, `test_clips`: once it is prepared."""

    spec: str
    sample_rate: int
    content_hash: str = ""
    summary: str = ""
    test_clips: int = 0


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run: `warm_start` is the hash of the training it starts from; `config` what its cost depends on."""

    label: str
    seed: int | None
    hash: str
    corpus: int
    training_hash: str = ""
    warm_start: str = ""
    warm_start_steps: int = 0
    steps: int = 0
    config: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PlannedRate:
    """The rate of a row; `off`: by how much, in percent, where it is more than 2 % off the study's."""

    bits_per_frame: float
    bitrate: float
    token_rate: float
    off: float | None = None


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What is known of a study without a tracking store."""

    study: str
    question: str
    allow_rate_mismatch: bool
    corpora: tuple[PlannedCorpus, ...]
    runs: tuple[PlannedRun, ...]
    references: tuple[PlannedRun, ...]
    rates: dict[str, PlannedRate]  # by label; a row that spends no bits is not there


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Seconds of one worker for what is to do; `missing` says why a part is None."""

    warm_starts: int
    training: float | None
    evaluation: float | None
    missing: tuple[str, ...] = ()

    @property
    def seconds(self) -> float | None:
        """All of it, or None where a part is not known."""
        if self.training is None or self.evaluation is None:
            return None
        return self.training + self.evaluation


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An outline, the state of each run in the tracking store, and the work that is left."""

    outline: Outline
    store: str
    states: dict[str, tuple[str, str]]  # by run hash: status, reason
    estimate: Estimate

    def state(self, run: PlannedRun) -> str:
        """The status of a run in the store, or `to do`."""
        return _state(self.states, run)

    def left(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        """Those that the next `codecbench run` does: failed and diverged ones wait for --retry."""
        return _left(self.states, runs)


def make(name: str, overrides: Sequence[str], store: str, runs_directory: Path) -> Plan:
    """The plan of a study. Raises StudyError, DataError, TrackingError."""
    outlined = outline(name, overrides)
    known = known_runs.read(store)
    mine = {run.hash for run in (*outlined.runs, *outlined.references)}
    states: dict[str, tuple[str, str]] = {}
    for run in known:
        put_aside = run.tags.get("superseded") == "true"  # by run --force
        if run.hash in mine and not put_aside and states.get(run.hash, ("", ""))[0] != FINISHED:
            states[run.hash] = (run.status, run.tags.get("reason", ""))
    estimate = _estimate(outlined, _left(states, outlined.runs), known, runs_directory)
    return Plan(outline=outlined, store=store, states=states, estimate=estimate)


def _state(states: Mapping[str, tuple[str, str]], run: PlannedRun) -> str:
    return states.get(run.hash, (TO_DO, ""))[0]


def _left(states: Mapping[str, tuple[str, str]], runs: Sequence[PlannedRun]) -> list[PlannedRun]:
    return [run for run in runs if _state(states, run) not in (FINISHED, FAILED, DIVERGED)]


def outline(name: str, overrides: Sequence[str]) -> Outline:
    """The outline of a study: from the cache, or worked out now."""
    values, source = study_files.read(name)
    for override in overrides:
        study_files.override(values, override)
    checked = cache(partial(check, values, source))
    needed = _kept("corpora", [values, source], lambda: runs.corpora(checked()))
    corpora = [_corpus(spec, rate) for spec, rate in needed]
    what = [values, source, [asdict(corpus) for corpus in corpora]]
    found = _kept("outline", what, lambda: asdict(_outline(checked(), corpora)))
    return Outline(
        **{
            **found,
            "corpora": tuple(PlannedCorpus(**corpus) for corpus in found["corpora"]),
            "runs": tuple(PlannedRun(**run) for run in found["runs"]),
            "references": tuple(PlannedRun(**run) for run in found["references"]),
            "rates": {label: PlannedRate(**rate) for label, rate in found["rates"].items()},
        }
    )


def _corpus(spec: str, sample_rate: int) -> PlannedCorpus:
    from experiments import data

    shards = data.prepared(spec, sample_rate=sample_rate)
    if shards is None:
        return PlannedCorpus(spec=spec, sample_rate=sample_rate)
    return PlannedCorpus(
        spec=spec,
        sample_rate=sample_rate,
        content_hash=shards.content_hash,
        summary=shards.summary(),
        test_clips=len(shards.split("test")),
    )


def _outline(study: Study, corpora: Sequence[PlannedCorpus]) -> Outline:
    from experiments import reference_runs

    place = {(corpus.spec, corpus.sample_rate): number for number, corpus in enumerate(corpora)}
    prepared = {
        (corpus.spec, corpus.sample_rate): runs.CorpusIdentity(
            spec=corpus.spec, name=corpus.spec, content_hash=corpus.content_hash, synthetic=False
        )
        for corpus in corpora
    }
    planned = []
    for run in runs.expand(study, prepared):
        start = run.warm_start()
        planned.append(
            PlannedRun(
                label=run.label,
                seed=run.seed,
                hash=run.hash,
                corpus=place[run.corpus.spec, run.sample_rate],
                training_hash=run.training_hash,
                warm_start=start.training_hash if start else "",
                warm_start_steps=start.train.steps if start else 0,
                steps=run.train.steps,
                config=step_costs.relevant(flatten(run.resolved())),
            )
        )
    references = [
        PlannedRun(label=run.label, seed=None, hash=run.hash, corpus=place[run.corpus.spec, run.sample_rate])
        for run in reference_runs.expand(study, prepared)
    ]
    rates = runs.rates(study)
    middle = runs.middles(rates)
    off = {rate.label for rate in runs.mismatched(rates)}
    return Outline(
        study=study.name,
        question=study.question,
        allow_rate_mismatch=study.allow_rate_mismatch,
        corpora=tuple(corpora),
        runs=tuple(planned),
        references=tuple(references),
        rates={
            rate.label: PlannedRate(
                bits_per_frame=rate.bits_per_frame,
                bitrate=rate.bitrate,
                token_rate=rate.token_rate,
                off=100 * (rate.bitrate / middle[rate.label] - 1) if rate.label in off else None,
            )
            for rate in rates
        },
    )


def _estimate(
    outlined: Outline, todo: Sequence[PlannedRun], known: Sequence[KnownRun], runs_directory: Path
) -> Estimate:
    costs = Costs([*known, *step_costs.measured()])
    starts = {
        run.warm_start: run
        for run in todo
        if run.warm_start and not (runs_directory / run.warm_start / "trained.json").exists()
    }
    untrained = [run for run in todo if not (runs_directory / run.training_hash / "trained.json").exists()]
    steps = [(run, run.steps) for run in untrained]
    steps += [(run, run.warm_start_steps) for run in starts.values()]
    training = [costs.training(run.config, number) for run, number in steps]
    evaluation = [costs.evaluation(run.config, outlined.corpora[run.corpus].test_clips) for run in todo]
    missing = []
    if None in training:
        missing.append("no run with this backbone, batch and objective was timed")
    if None in evaluation:
        missing.append("no evaluation with these metrics was timed")
    return Estimate(
        warm_starts=len(starts),
        training=None if None in training else sum(filter(None, training)),
        evaluation=None if None in evaluation else sum(filter(None, evaluation)),
        missing=tuple(missing),
    )


def gpus() -> int:
    """GPUs of this machine, as the driver lists them."""
    try:
        listed = subprocess.run(("nvidia-smi", "-L"), capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return listed.stdout.count("GPU ") if listed.returncode == 0 else 0


def _kept(kind: str, what: Any, work: Callable[[], Any]) -> Any:
    """The result of `work` as JSON values, from the cache where the code and `what` are the same."""
    from experiments.data import cache_directory

    code = _code()
    if code is None:
        return json.loads(json.dumps(work()))
    key = hashlib.sha256(json.dumps([kind, what, code], default=str).encode()).hexdigest()[:32]
    folder = cache_directory() / "plans"
    path = folder / f"{key}.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        pass
    text = json.dumps(work())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
        partial = path.with_suffix(f".{hashlib.sha256(text.encode()).hexdigest()[:8]}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:  # a plan is made without a cache, too
        pass
    return json.loads(text)


def _code() -> list[Any] | None:
    """What changes whenever our code does; None where quantizers of other packages decide, too."""
    from importlib.metadata import entry_points

    if entry_points(group="codecbench.quantizers"):
        return None
    root = Path(__file__).resolve().parents[1]
    files = sorted(path for package in _CODE for path in (root / package).rglob("*.py"))
    return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
