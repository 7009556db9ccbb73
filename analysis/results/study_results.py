"""One study as tidy pandas frames; `analysis.results.load` finds it in a tracking store."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.results.run_files import RunFiles
from experiments.tracking import artifacts
from experiments.tracking.schema import FINISHED
from experiments.tracking.stored import Reader

RUN_COLUMNS = {
    "run_id": "MLflow run",
    "label": "row label, unique in a study",
    "series": "label without the rate: the same for all rows of a curve",
    "quantizer": "registered name",
    "seed": "seed of initialisation and data order",
    "status": "running, finished, failed, diverged or pruned",
    "reason": "why a run failed or diverged",
    "run_hash": "hash of everything that decides the result",
    "protocol": "version of the evaluation protocol",
    "corpus": "name of the corpus that was scored",
    "corpus_hash": "content hash of that corpus",
    "synthetic": "whether that corpus is synthetic speech",
    "reference": "whether it is a codec from outside, or a control",
    "git_commit": "commit of the code that trained the run",
    "git_dirty": "whether the working tree had changes",
    "version": "version of codecbench that trained the run",
    "torch": "version of torch that trained the run",
    "precision": "precision of the network's blocks: fp32, bf16 or fp16; empty if unknown",
    "warm_start": "hash of the training of its warm start; empty without one",
    "starting_weights": "digest of encoder and decoder before the first step; empty if unknown",
}


_AGAIN = "Remedy: put a whole copy back, or delete the run in MLflow and start the study again"
_BACK = (
    "Remedy: put the folder of artifacts back there, or beside the store's file; if it is lost, delete the "
    "run (`mlflow runs delete --run-id RUN`) and start the study again, which does it anew"
)


class ResultsError(ValueError):
    """A study cannot be read; the message says what to do."""


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


@dataclass(frozen=True)
class Results:
    """The results of one study.

    `runs` has one row per run: the columns of `RUN_COLUMNS`, then the last value of every metric under its
    logged name (`eval/pesq`, `rate/bitrate`, ...), then every parameter as `param/<name>`, as text.
    `references` is the same for codecs by others, which no statistic of the study's own runs includes.
    """

    study: str
    tracking_uri: str
    runs: pd.DataFrame
    settings: Mapping[str, str]  # the study's own parameters, flattened
    _reader: Reader = field(repr=False, compare=False)
    _files: RunFiles = field(repr=False, compare=False)
    references: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    parent_id: str | None = None  # the study's MLflow run
    from_archive: frozenset[str] = frozenset()  # ids of runs that were imported into the study
    contrasts: Sequence[Mapping[str, str | bool]] = ()  # effect, name, of, less; planned: true or false
    headline_bitrate: float | None = None  # bit/s of what shows one rate; None: the one of the most systems

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """Scores, long: run_id, label, seed, utterance, metric, value (NaN where it failed), status, backend
        (with its version; empty where it was not logged).

        Raises ResultsError where the scores of a finished run are gone.
        """
        return self._scores(self.finished)

    @cached_property
    def reference_utterances(self) -> pd.DataFrame:
        """The same of the references."""
        return self._scores(self.finished_references)

    def _scores(self, runs: pd.DataFrame) -> pd.DataFrame:
        columns = ["run_id", "label", "seed", "utterance", "metric", "value", "status", "backend"]
        kept = [name for name in ("run_id", "label", "seed") if name in runs]
        found = [(run, self._score_table(run["run_id"])) for run in records(runs[kept])]
        if not found:
            return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
        lengths = [len(table) for _, table in found]
        frame = pa.concat_tables([table for _, table in found], promote_options="permissive").to_pandas()
        for name in kept:
            frame[name] = pd.Series([run[name] for run, _ in found]).repeat(lengths).array
        return frame[columns]

    def _score_table(self, run_id: str) -> pa.Table:
        path = self.needed(run_id, artifacts.SCORES)
        try:
            table = pq.read_table(path, partitioning=None)
            if "backend" not in table.column_names:
                table = table.append_column("backend", pa.array([""] * len(table), pa.string()))
            return table.select(["utterance", "metric", "value", "status", "backend"])
        except (pa.ArrowException, KeyError, OSError) as error:
            raise ResultsError(f"{path}, the scores of run {run_id}, is damaged: {error}. {_AGAIN}") from None

    @cached_property
    def histories(self) -> pd.DataFrame:
        """Metrics logged while training, long: run_id, label, seed, metric, step, value."""
        return self._by_step(("train/", "validation/"))

    @cached_property
    def budgets(self) -> pd.DataFrame:
        """Metrics at each budget of `train.decay_at`, `budget/...`, in the columns of `histories`."""
        return self._by_step(("budget/",))

    def _by_step(self, beginnings: tuple[str, ...]) -> pd.DataFrame:
        names = [str(name) for name in self.runs if str(name).startswith(beginnings)]
        logged = {
            run["run_id"]: (run["label"], run["seed"], {name for name in names if pd.notna(run[name])})
            for run in records(self.runs[["run_id", "label", "seed", *names]])
        }
        rows = [
            (run_id, *logged[run_id][:2], name, step, value)
            for run_id, name, step, value in self._reader.histories(list(logged), names)
            if name in logged[run_id][2]
        ]
        return pd.DataFrame(rows, columns=["run_id", "label", "seed", "metric", "step", "value"])

    @cached_property
    def usage(self) -> pd.DataFrame:
        """Code counts on the test set, long: run_id, label, seed, factor, code, count."""
        frames = []
        for run in records(self.finished):
            for factor, counts in enumerate(self.histograms(run["run_id"])):
                frames.append(
                    pd.DataFrame(
                        {
                            "run_id": run["run_id"],
                            "label": run["label"],
                            "seed": run["seed"],
                            "factor": factor,
                            "code": np.arange(len(counts)),
                            "count": counts,
                        }
                    )
                )
        columns = ["run_id", "label", "seed", "factor", "code", "count"]
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)

    @cached_property
    def finished(self) -> pd.DataFrame:
        """The rows of `runs` that finished."""
        return self.runs[self.runs["status"] == FINISHED]

    @cached_property
    def finished_references(self) -> pd.DataFrame:
        """The rows of `references` that finished."""
        return (
            self.references[self.references["status"] == FINISHED]
            if len(self.references)
            else self.references
        )

    def scores(self, metric: str, run_ids: Sequence[str]) -> np.ndarray:
        """Scores of one metric, `[runs, utterances]` in the order given; NaN where an utterance failed."""
        names, table = self._by_run(metric)
        mine = [table[run_id] for run_id in run_ids if run_id in table]
        if not mine:
            return np.empty((len(run_ids), 0))
        scored = np.any([there for there, _ in mine], axis=0)  # by one of these runs
        nothing = np.full(len(names), np.nan)
        rows = [table[run_id][1] if run_id in table else nothing for run_id in run_ids]
        return np.stack(rows)[:, scored]

    def mean_scores(self, metric: str, run_ids: Sequence[str]) -> np.ndarray:
        """The mean over runs of each utterance's score, `[utterances]`, of all that `metric` was asked of in
        the study, by name; NaN where all runs failed."""
        names, table = self._by_run(metric)
        rows = [table[run_id][1] for run_id in run_ids if run_id in table]
        if len(rows) == 1:
            return rows[0]
        scored = np.isfinite(rows).sum(axis=0) if rows else np.zeros(len(names))
        with np.errstate(invalid="ignore"):
            return np.nansum(rows, axis=0) / scored if rows else np.full(len(names), np.nan)

    def _by_run(self, metric: str) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]:
        """Names of the utterances that `metric` was asked of, sorted; for each run which of them it has, and
        its scores, both `[utterances]`."""
        if metric not in self._tables:
            self._tables[metric] = _by_run(self._told_apart, metric)
        return self._tables[metric]

    @cached_property
    def _told_apart(self) -> pd.DataFrame:
        """The scores, with the corpus in the names of utterances where a study has several: a clip in noise
        may have the name of the clean one, and is no pair of it."""
        corpora = self.finished.set_index("run_id")["corpus_hash"]
        if corpora.nunique() < 2:
            return self.utterances
        names = self.utterances["run_id"].map(corpora) + " " + self.utterances["utterance"]
        return self.utterances.assign(utterance=names)

    @cached_property
    def _tables(self) -> dict[str, tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]]:
        return {}

    def histograms(self, run_id: str) -> list[np.ndarray]:
        """Counts of each factor's codes on the test set, `[codes]` each; empty when none were logged."""
        return self._arrays(run_id, artifacts.HISTOGRAMS, "factor_")

    def pair_histograms(self, run_id: str) -> list[np.ndarray]:
        """Counts of the joint codes of two channels each, `[x * y]`, where every channel has its own code."""
        return self._arrays(run_id, artifacts.HISTOGRAMS, "pair_")

    def slices(self, run_id: str) -> dict[str, np.ndarray]:
        """Learned codebooks in their principal planes, `<field>_<group>` of `geometry.slices.Slice`."""
        return self._archive(run_id, artifacts.SLICES)

    def snapshots(self, run_id: str) -> dict[str, np.ndarray]:
        """Latents of fixed crops while training: `steps` [n], `pair_0` and so on [n, points, 2]."""
        return self._archive(run_id, artifacts.SNAPSHOTS)

    def latents(self, run_id: str) -> list[np.ndarray]:
        """Pre-quantization coordinates of each pair in grid units, `[points, 2]` each; empty when none."""
        return self._arrays(run_id, artifacts.LATENTS, "pair_")

    def artifact(self, run_id: str, path: str) -> Path | None:
        """One artifact as a file of this machine, not to be changed; None when the run has none of that name.

        Raises TrackingError where the store does not give it.
        """
        return self._files.get(run_id, path)

    def needed(self, run_id: str, path: str) -> Path:
        """An artifact that every finished run has by construction.

        Raises ResultsError where it is gone, which says where it was looked for.
        """
        copy = self._files.get(run_id, path)
        if copy is None:
            run = self._named(run_id)
            raise ResultsError(
                f"{run} of study {self.study!r} finished, but its {path} is gone: it is not in "
                f"{self._files.looked_in(run_id)}. {_BACK}"
            )
        return copy

    def _named(self, run_id: str) -> str:
        for frame in (self.runs, self.references):
            for run in records(frame[frame["run_id"] == run_id][["label", "seed"]]) if len(frame) else ():
                return f"{run['label']!r}, seed {run['seed']}, run {run_id},"
        return f"run {run_id}"

    def audio(self, run_id: str) -> dict[str, dict[str, Path]]:
        """Logged audio by utterance: `{"utt": {"reference": path, "reconstruction": path}}`."""
        pairs: dict[str, dict[str, Path]] = {}
        listed = self.artifact(run_id, f"{artifacts.AUDIO}/{artifacts.AUDIO_NAMES}")
        names = json.loads(listed.read_text(encoding="utf-8")) if listed else {}
        for file in sorted(self.files(run_id, artifacts.AUDIO)):
            stem, _, kind = Path(file).stem.rpartition(".")
            path = self.artifact(run_id, file) if stem else None
            if path is not None:
                pairs.setdefault(names.get(stem, stem), {})[kind] = path
        return pairs

    def files(self, run_id: str, folder: str = ".") -> set[str]:
        """Paths of what is in a folder of a run's artifacts; "." is the topmost."""
        return self._files.listed(run_id, folder)

    def _arrays(self, run_id: str, name: str, prefix: str) -> list[np.ndarray]:
        arrays = self._archive(run_id, name)
        keys = sorted((key for key in arrays if key.startswith(prefix)), key=lambda k: int(k[len(prefix) :]))
        return [arrays[key] for key in keys]

    def _archive(self, run_id: str, name: str) -> dict[str, np.ndarray]:
        path = self.artifact(run_id, name)
        if path is None:
            return {}
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, AttributeError) as error:
            raise ResultsError(f"{path}, of run {run_id}, is damaged: {error}. {_AGAIN}") from None


def _by_run(scores: pd.DataFrame, metric: str) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]]]:
    mine = scores[scores["metric"] == metric]
    codes, names = pd.factorize(mine["utterance"], sort=True)
    values = mine["value"].to_numpy(dtype=float)
    table = {}
    runs, ids = pd.factorize(mine["run_id"])
    for number, run_id in enumerate(ids):
        rows = runs == number
        there, row = np.zeros(len(names), dtype=bool), np.full(len(names), np.nan)
        there[codes[rows]], row[codes[rows]] = True, values[rows]
        table[str(run_id)] = there, row
    return [str(name) for name in names], table
