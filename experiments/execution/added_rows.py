"""Rows that did not come from a run of the study: scores of a folder, put into its table as a reference."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.data import audio_files
from experiments.evaluation.scores import EvaluationError
from experiments.evaluation.test_set import summarise
from experiments.execution.tracked_run import run_tags
from experiments.tracking import artifacts
from experiments.tracking import store as tracking
from experiments.tracking.schema import FINISHED, KIND_RUN, KIND_STUDY, Tag, parent_of

if TYPE_CHECKING:
    import pandas as pd


def digest_of(files: Mapping[str, Path]) -> str:
    """Content hash of recordings, so that rows on other audio are told from each other."""
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(name.encode("utf-8", "backslashreplace"))
        with contextlib.suppress(OSError):  # what cannot be read has no score either
            digest.update(path.read_bytes() if not audio_files.problem(path) else b"")
    return digest.hexdigest()[:16]


def add(
    study: str,
    uri: str,
    *,
    label: str,
    codec: str,
    scores: pd.DataFrame,
    bitrate: float | None,
    corpus: str,
    corpus_hash: str,
) -> None:
    """Log `scores` (of `evaluate.score`) below the study that was worked on last; an older row of that label
    gives way. codec: a reference codec's name, or `folder`.

    Raises EvaluationError where the store has no such study.
    """
    store = tracking.Store(uri, study)
    parent = parent_of(store.search(kind=KIND_STUDY))
    if parent is None:
        raise EvaluationError(f"{uri} has no study {study!r}; run it first, or correct --study")
    run_hash = hashlib.sha256(f"added {label}".encode()).hexdigest()[:16]
    tags = run_tags(
        parent.info.run_id,
        study=study,
        quantizer=f"reference:{codec}",
        label=label,
        corpus=corpus,
        corpus_hash=corpus_hash,
        reference=True,
        synthetic=False,
        protocol=str(scores["protocol"].iloc[0]),
        more={Tag.KIND: KIND_RUN, Tag.ADDED: "true", Tag.RUN_HASH: run_hash},
    )
    run = store.patiently(lambda: store.client.create_run(store.experiment_id, run_name=label, tags=tags))
    values = summarise(scores)
    if bitrate is not None:
        values["rate/bitrate"] = bitrate
    with artifacts.logged(store, run.info.run_id) as folder:
        artifacts.write_scores(folder, scores)
    store.log_values(run.info.run_id, values)
    store.set_status(run.info.run_id, FINISHED)
