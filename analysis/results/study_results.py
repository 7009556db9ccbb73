"""One study as tidy pandas frames; `analysis.loading` finds it in a tracking store."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.common.run_folder import SNAPSHOTS
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import quiet_mlflow

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

RUN_COLUMNS = {
    "run_id": "MLflow run",
    "label": "row label, unique in a study",
    "series": "what the rows of one curve have in common",
    "quantizer": "registered name",
    "seed": "seed of initialisation and data order",
    "status": "running, finished, failed, diverged or pruned",
    "reason": "why a run failed or diverged",
    "run_hash": "hash of everything that decides the result",
    "protocol": "version of the evaluation protocol",
    "corpus": "name of the corpus",
    "corpus_hash": "content hash of the corpus",
    "synthetic": "whether the corpus is synthetic speech",
    "reference": "whether it is a codec from outside, or a control",
    "git_commit": "commit of the code that trained the run",
    "git_dirty": "whether the working tree had changes",
    "version": "version of codecbench that trained the run",
    "torch": "version of torch that trained the run",
    "precision": "what the blocks of the network computed in: fp32, bf16 or fp16; empty where unknown",
}


class ResultsError(ValueError):
    """A study cannot be read; the message says what to do."""


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


@dataclass(frozen=True)
class Results:
    """One study.

    `runs` has one row a run: the columns of `RUN_COLUMNS`, then every metric's last value under its
    logged name (`eval/pesq`, `rate/bitrate`, ...) and every parameter as `param/<name>`, as text.
    `references` is the same of codecs from outside, which no statistic of the study's own runs includes.
    """

    study: str
    tracking_uri: str
    runs: pd.DataFrame
    settings: Mapping[str, str]  # the study's own parameters, flattened
    _client: MlflowClient = field(repr=False, compare=False)
    _downloads: Path = field(repr=False, compare=False)
    references: pd.DataFrame = field(default_factory=pd.DataFrame, compare=False)
    parent_id: str | None = None  # the study's MLflow run
    _places: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # artifacts, by run
    _copies: dict[tuple[str, str], Path] = field(default_factory=dict, repr=False, compare=False)
    _listed: dict[tuple[str, str], set[str]] = field(default_factory=dict, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_client"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """In another process, with a connection and a folder for downloads of its own."""
        own = state["_downloads"] / f"process-{os.getpid()}"
        self.__dict__.update(state, _client=connect(state["tracking_uri"]), _downloads=own)

    @cached_property
    def utterances(self) -> pd.DataFrame:
        """Scores, long: run_id, label, seed, utterance, metric, value (NaN where it failed), status, backend
        (with its version; empty where it was not logged)."""
        return self._scores(self.finished)

    @cached_property
    def reference_utterances(self) -> pd.DataFrame:
        """The same of the references."""
        return self._scores(self.finished_references)

    def _scores(self, runs: pd.DataFrame) -> pd.DataFrame:
        frames = []
        for run in records(runs):
            path = self.artifact(run["run_id"], "utterances.parquet")
            if path is not None:
                frame = pd.read_parquet(path)
                frame = frame if "backend" in frame else frame.assign(backend="")
                frames.append(frame.assign(run_id=run["run_id"], label=run["label"], seed=run["seed"]))
        columns = ["run_id", "label", "seed", "utterance", "metric", "value", "status", "backend"]
        if not frames:
            return pd.DataFrame({name: pd.Series(dtype=object) for name in columns})
        return pd.concat(frames, ignore_index=True)[columns]

    @cached_property
    def histories(self) -> pd.DataFrame:
        """Metrics logged while training, long: run_id, label, seed, metric, step, value."""
        rows = []
        for run in records(self.runs):
            for name in sorted(name for name, value in run.items() if pd.notna(value)):
                if name.startswith(("train/", "validation/")):
                    points = self._client.get_metric_history(run["run_id"], name)
                    rows += [
                        (run["run_id"], run["label"], run["seed"], name, point.step, point.value)
                        for point in sorted(points, key=lambda point: point.step)
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

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of `runs` that finished."""
        return self.runs[self.runs["status"] == FINISHED]

    @property
    def finished_references(self) -> pd.DataFrame:
        """The rows of `references` that finished."""
        return (
            self.references[self.references["status"] == FINISHED]
            if len(self.references)
            else self.references
        )

    def scores(self, metric: str, run_ids: Sequence[str]) -> np.ndarray:
        """Scores of one metric, `[runs, utterances]` in the order given; NaN where an utterance failed."""
        mine = self.utterances[
            (self.utterances["metric"] == metric) & self.utterances["run_id"].isin(list(run_ids))
        ]
        if mine.empty:
            return np.empty((len(run_ids), 0))
        wide = mine.pivot(index="run_id", columns="utterance", values="value")
        return wide.reindex(list(run_ids)).to_numpy(dtype=float)

    def histograms(self, run_id: str) -> list[np.ndarray]:
        """Counts of each factor's codes on the test set, `[codes]` each; empty when none were logged."""
        return self._arrays(run_id, "histograms.npz", "factor_")

    def pair_histograms(self, run_id: str) -> list[np.ndarray]:
        """Counts of the joint codes of two channels each, `[x * y]`, where every channel has its own code."""
        return self._arrays(run_id, "histograms.npz", "pair_")

    def slices(self, run_id: str) -> dict[str, np.ndarray]:
        """Learned codebooks in their principal planes, `<field>_<group>` of `geometry.slices.Slice`."""
        return self._archive(run_id, "slices.npz")

    def snapshots(self, run_id: str) -> dict[str, np.ndarray]:
        """Latents of fixed crops while training: `steps` [n], `pair_0` and so on [n, points, 2]."""
        return self._archive(run_id, SNAPSHOTS)

    def latents(self, run_id: str) -> list[np.ndarray]:
        """Pre-quantization coordinates of each pair in grid units, `[points, 2]` each; empty when none."""
        return self._arrays(run_id, "latents.npz", "pair_")

    def artifact(self, run_id: str, path: str) -> Path | None:
        """A local copy of one artifact, or None when the run has none of that name."""
        if path not in self.files(run_id, str(Path(path).parent)):
            return None
        if (run_id, path) not in self._copies:
            target = self._downloads / run_id / Path(path).parent
            target.mkdir(parents=True, exist_ok=True)
            self._copies[run_id, path] = Path(self._repository(run_id).download_artifacts(path, str(target)))
        return self._copies[run_id, path]

    def audio(self, run_id: str) -> dict[str, dict[str, Path]]:
        """Logged audio by utterance: `{"utt": {"reference": path, "reconstruction": path}}`."""
        pairs: dict[str, dict[str, Path]] = {}
        listed = self.artifact(run_id, "audio/utterances.json")
        names = json.loads(listed.read_text(encoding="utf-8")) if listed else {}
        for file in sorted(self.files(run_id, "audio")):
            stem, _, kind = Path(file).stem.rpartition(".")
            path = self.artifact(run_id, file) if stem else None
            if path is not None:
                pairs.setdefault(names.get(stem, stem), {})[kind] = path
        return pairs

    def files(self, run_id: str, folder: str = ".") -> set[str]:
        """Paths of what is in a folder of a run's artifacts; "." is the topmost."""
        if (run_id, folder) not in self._listed:
            entries = self._repository(run_id).list_artifacts(None if folder == "." else folder)
            self._listed[run_id, folder] = {str(entry.path) for entry in entries}
        return self._listed[run_id, folder]

    def _repository(self, run_id: str) -> ArtifactRepository:
        """By its place, which is known: the client would read the whole run again for every file."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(self._places[run_id], tracking_uri=self.tracking_uri)

    def _arrays(self, run_id: str, name: str, prefix: str) -> list[np.ndarray]:
        arrays = self._archive(run_id, name)
        keys = sorted((key for key in arrays if key.startswith(prefix)), key=lambda k: int(k[len(prefix) :]))
        return [arrays[key] for key in keys]

    def _archive(self, run_id: str, name: str) -> dict[str, np.ndarray]:
        path = self.artifact(run_id, name)
        if path is None:
            return {}
        with np.load(path) as archive:
            return {key: archive[key] for key in archive.files}


def connect(uri: str) -> MlflowClient:
    """A client of the store at `uri`.

    Raises:
        ResultsError: there is no such file.
    """
    quiet_mlflow()
    from mlflow import MlflowClient

    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.exists():  # MLflow would create an empty store
            raise ResultsError(
                f"no tracking store at {path}; go to the folder where the study was run, "
                "or set MLFLOW_TRACKING_URI"
            )
    return MlflowClient(tracking_uri=uri)
