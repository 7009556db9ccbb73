"""Outlines of studies, kept in the cache.

The rates are the live modules'. Building those needs torch, which takes seconds to import. So an outline is
kept for as long as neither the study nor the code changes, and then a plan imports no torch.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from experiments.common.atomic_files import write_text
from experiments.data import cache_directory, prepared
from experiments.planning.outline import Outline, PlannedCorpus, PlannedRate, PlannedRun
from experiments.studies import files

_CODE = ("quantizers", "codec", "experiments")  # packages that decide runs and rates


_KEPT = 50  # outlines kept in the cache


def outline(name: str, overrides: Sequence[str]) -> Outline:
    """The outline of a study: from the cache, or worked out now. Raises StudyError, DataError."""
    values, source = files.read(name)
    for override in overrides:
        files.override(values, override)
    fewer = files.leave_out_rows(overrides)
    needed = kept("corpora", [values, source], lambda: _live().needed_corpora(values, source, fewer))
    corpora = [planned_corpus(*each) for each in needed]
    what = [values, source, [asdict(corpus) for corpus in corpora]]
    fields = kept("outline", what, lambda: asdict(_live().outline_of(values, source, corpora, fewer)))
    return Outline(
        **{
            **fields,
            "corpora": tuple(PlannedCorpus(**corpus) for corpus in fields["corpora"]),
            "runs": tuple(PlannedRun(**run) for run in fields["runs"]),
            "references": tuple(PlannedRun(**run) for run in fields["references"]),
            "weights": tuple(fields["weights"]),
            "rates": {label: PlannedRate(**rate) for label, rate in fields["rates"].items()},
        }
    )


def _live() -> Any:
    """The module that builds live quantizers, and so imports torch."""
    from experiments.planning import live_outline

    return live_outline


def planned_corpus(spec: str, sample_rate: int, splits: Sequence[str]) -> PlannedCorpus:
    """The corpus `spec` at `sample_rate` Hz, of which `splits` are needed, as far as it is prepared here."""
    only_scored = "train" not in splits
    shards = prepared(spec, sample_rate=sample_rate, needed=splits)
    if shards is None:
        return PlannedCorpus(spec=spec, sample_rate=sample_rate, only_scored=only_scored)
    return PlannedCorpus(
        spec=spec,
        sample_rate=sample_rate,
        content_hash=shards.content_hash,
        summary=shards.summary(),
        test_clips=len(shards.split("test")),
        only_scored=only_scored,
    )


def kept(kind: str, what: Any, work: Callable[[], Any]) -> Any:
    """The result of `work` as JSON values, from the cache where the code and `what` are the same."""
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
        write_text(path, text)
    except OSError:  # a plan is made without a cache, too
        pass
    return json.loads(text)


def _code() -> list[Any] | None:
    """Values that change whenever our code does; None where quantizers of other packages decide, too."""
    if entry_points(group="codecbench.quantizers"):
        return None
    root = Path(__file__).resolve().parents[2]
    files = sorted(path for package in _CODE for path in (root / package).rglob("*.py"))
    return [(str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files]
