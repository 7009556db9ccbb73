"""Put several studies of one store together, so that rows of different studies can be compared."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.results.run_files import RunFiles
from analysis.results.study_metrics import asked_metrics
from analysis.results.study_results import Results, ResultsError


def merged(studies: Sequence[Results]) -> Results:
    """The runs of all `studies`, each row under the label `LABEL [STUDY]`.

    The column `short` has the label alone, `studies` a tuple of names: a row of the very same runs in several
    studies is one row. Raises ResultsError for studies of different stores, or none.
    """
    if len({results.tracking_uri for results in studies}) != 1:
        raise ResultsError("give studies of one tracking store, at least one")
    known: dict[frozenset[str], tuple[str, list[str]]] = {}
    for results in studies:
        for _, runs in _rows(results):
            row = frozenset(runs["run_hash"])
            name = f"{runs['label'].iloc[0]} [{results.study}]"
            known.setdefault(row, (name, []))[1].append(results.study)
    frames: dict[bool, list[pd.DataFrame]] = {False: [], True: []}
    taken: set[frozenset[str]] = set()
    for results in studies:
        for reference, runs in _rows(results):
            row = frozenset(runs["run_hash"])
            if row not in taken:
                taken.add(row)
                name, names = known[row]
                whose = pd.Series([tuple(names)] * len(runs), index=runs.index)
                frames[reference].append(runs.assign(short=runs["label"], label=name, studies=whose))
    metrics = [metric for results in studies for metric in asked_metrics(results)]
    downloads = Path(tempfile.mkdtemp(prefix="codecbench-"))
    addresses = {run: place for results in studies for run, place in results._files.addresses.items()}
    first = studies[0]
    whole = replace(
        first,
        study=", ".join(results.study for results in studies),
        runs=_together(frames[False]),
        references=_together(frames[True]),
        settings={"evaluate.metrics": json.dumps(list(dict.fromkeys(metrics)))},
        parent_id=None,
        from_archive=frozenset().union(*(results.from_archive for results in studies)),
        headline_bitrate=None,
        contrasts=(),
        _files=RunFiles(first.tracking_uri, addresses, downloads),
    )
    weakref.finalize(whole, shutil.rmtree, downloads, ignore_errors=True)
    return whole


def _rows(results: Results) -> list[tuple[bool, pd.DataFrame]]:
    """The finished rows of a study, each as its runs, and whether it is a reference."""
    return [
        (reference, runs)
        for reference, frame in ((False, results.finished), (True, results.finished_references))
        if len(frame)
        for _, runs in frame.groupby("label", sort=False)
    ]


def _together(frames: list[pd.DataFrame]) -> pd.DataFrame:
    if not frames:
        columns = ["run_id", "label", "short", "studies", "status", "quantizer", "seed", "run_hash"]
        return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
    return pd.concat(frames, ignore_index=True)
