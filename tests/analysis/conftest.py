"""Real MLflow stores, written as a study writes them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

METRICS = {"pesq": (1.6, 0.25), "stoi": (0.87, 0.03), "mel_distance": (0.9, 0.1), "dnsmos_ovrl": (2.7, 0.2)}


@dataclass
class FakeRun:
    """What one child run logs. `effect` is added to every score."""

    label: str
    bits: float = 17.0
    quantizer: str = ""
    seed: int = 0
    effect: float = 0.0
    status: str = "finished"
    reason: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # utterance -> reason
    fails: str = "pesq"  # the metric that it fails by
    scored: dict[str, tuple[float, float]] = field(default_factory=lambda: METRICS)  # centre and spread
    histograms: list[np.ndarray] = field(default_factory=list)
    latents: list[np.ndarray] = field(default_factory=list)
    pair_histograms: list[np.ndarray] = field(default_factory=list)
    slices: dict[str, np.ndarray] = field(default_factory=dict)
    snapshots: dict[str, np.ndarray] = field(default_factory=dict)
    utterances: int = 12
    backend: str = "backend 1.0"  # that scored
    audio: float | None = None  # level of the noise in the reconstruction
    seconds: int = 1  # of audio


def scores(run: FakeRun) -> pd.DataFrame:
    names = [f"utt{index:02d}" for index in range(run.utterances)]
    easy = np.random.default_rng(7).normal(size=len(names))  # the same difficulty for every system
    own = np.random.default_rng([run.seed, *run.label.encode()])
    rows: list[dict[str, Any]] = []
    for metric, (centre, spread) in run.scored.items():
        values = centre + spread * (easy + run.effect + 0.2 * own.normal(size=len(names)))
        for name, value in zip(names, values, strict=True):
            why = run.failed.get(name) if metric == run.fails else None
            rows.append(
                {
                    "utterance": name,
                    "metric": metric,
                    "value": float("nan") if why else value,
                    "status": why or "ok",
                }
            )
    return pd.DataFrame(rows)


def write_run(client: MlflowClient, experiment: str, parent: str, run: FakeRun, folder: Path) -> str:
    tags = {
        "kind": "run",
        "run_hash": f"{run.label}-{run.seed}-{run.bits}",
        "status": run.status,
        "protocol": "1",
        "quantizer": run.quantizer or run.label,
        "label": run.label,
        "seed": str(run.seed),
        "corpus": "demo",
        "corpus_hash": "0123456789abcdef",
        "synthetic": "true",
        "git_commit": "a" * 40,
        "git_dirty": "false",
        **({"reason": run.reason} if run.reason else {}),
        **run.tags,
    }
    created = client.create_run(experiment, run_name=run.label, tags={"mlflow.parentRunId": parent})
    run_id = created.info.run_id
    metrics = dict(run.metrics)
    if run.status == "finished":
        metrics = {**final_metrics(run), **metrics}
    logged = [Metric(name, value, 0, 0) for name, value in metrics.items()]
    for step in range(0, 100, 10):
        logged.append(Metric("train/loss", 2.0 + np.exp(-step / 30) + 0.1 * run.seed, step, step))
        logged.append(Metric("validation/mel", 1.0 + np.exp(-step / 30) - 0.1 * run.effect, step, step))
    client.log_batch(
        run_id,
        metrics=logged,
        params=[Param(k, v) for k, v in {"train.steps": "100", **run.params}.items()],
        tags=[RunTag(f"codecbench.{name}", value) for name, value in tags.items()],
    )
    if run.status == "finished":
        local = folder / run_id
        local.mkdir()
        scores(run).assign(backend=run.backend).to_parquet(local / "utterances.parquet")
        (local / "config.yaml").write_text(f"quantizer: {run.quantizer or run.label}\n")
        (local / "usage.json").write_text('{"tokens": 9000}')
        if run.histograms:
            counts = {f"factor_{i}": h for i, h in enumerate(run.histograms)}
            counts |= {f"pair_{i}": h for i, h in enumerate(run.pair_histograms)}
            np.savez(local / "histograms.npz", **counts)
        if run.slices:
            np.savez(local / "slices.npz", **run.slices)
        if run.snapshots:
            np.savez(local / "snapshots.npz", **run.snapshots)
        if run.latents:
            np.savez(local / "latents.npz", **{f"pair_{i}": x for i, x in enumerate(run.latents)})
        if run.audio is not None:
            write_audio(local / "audio", run)
        client.log_artifacts(run_id, str(local))
        shutil.rmtree(local)
    client.set_terminated(run_id, "FINISHED" if run.status == "finished" else "FAILED")
    return run_id


def write_audio(folder: Path, run: FakeRun, rate: int = 16_000) -> None:
    folder.mkdir()
    for number, name in enumerate(("utt00", "utt01", "utt02")):
        length = rate * run.seconds
        time = np.arange(length) / length
        sweep = np.sin(2 * np.pi * (200 + 900 * number) * time * (1 + time)) * np.hanning(length) * 0.5
        noise = np.random.default_rng(len(run.label)).normal(size=length) * (run.audio or 0.0)
        soundfile.write(folder / f"{name}.reference.flac", sweep, rate)
        soundfile.write(folder / f"{name}.reconstruction.flac", np.clip(sweep + noise, -1, 1), rate)


def final_metrics(run: FakeRun) -> dict[str, float]:
    frame_rate = 150.0
    coded = run.bits > 0
    metrics = {
        "rate/frame_rate": frame_rate,
        "rate/streams": float(coded),
        "rate/token_rate": frame_rate * coded,
        "rate/bits_per_frame": run.bits,
        "rate/bitrate": frame_rate * run.bits,
        "rate/entropy_bitrate": 0.95 * frame_rate * run.bits,
        "usage/tokens": 9000.0,
        "usage/used_fraction": 0.987,
        "usage/dead_fraction": 0.013,
        "usage/perplexity": 44.25,
        "usage/entropy_bits": 5.4,
        "usage/entropy_fraction": 0.962,
        "usage/uniform_used_fraction": 1.0,
        "cost/parameters": 1_234_567.0,
        "cost/quantizer_parameters": 1_800.0,
        "cost/real_time_factor": 0.0123,
        "cost/train_seconds": 51.0,
        "cost/audio_seconds_trained": 4000.0,
    }
    if not coded:
        coding = ("usage/", "rate/token_rate", "rate/bit", "rate/entropy")
        metrics = {name: value for name, value in metrics.items() if not name.startswith(coding)}
    frame = scores(run)
    for metric, group in frame.groupby("metric"):
        values = group["value"].dropna().to_numpy()
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        metrics |= {
            f"eval/{metric}": values.mean(),
            f"eval/{metric}_low": values.mean() - half,
            f"eval/{metric}_high": values.mean() + half,
            f"eval/{metric}_asked": float(len(group)),
            f"eval/{metric}_scored": float(len(values)),
            f"eval/{metric}_failed": float(len(group) - len(values)),
        }
    return metrics


class Store:
    """One MLflow store for a test session: creating its tables takes seconds, a study milliseconds."""

    Run = FakeRun

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=self.uri)
        self._experiments: dict[str, str] = {}

    def study(self, name: str, runs: list[FakeRun], settings: dict[str, str] | None = None) -> str:
        """Write a parent run with children; returns the parent's id. settings: the study's own, flattened."""
        if name not in self._experiments:
            location = (self.folder / "artifacts" / name).as_uri()
            self._experiments[name] = self.client.create_experiment(name, artifact_location=location)
        experiment = self._experiments[name]
        tags = {"codecbench.kind": "study"}
        parent = self.client.create_run(experiment, run_name=name, tags=tags).info.run_id
        for key, value in (settings or {}).items():
            self.client.log_param(parent, key, value)
        for run in runs:
            write_run(self.client, experiment, parent, run, self.folder)
        self.client.set_terminated(parent)
        return str(parent)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


SEVEN = [
    FakeRun("none", bits=0.0, effect=2.0),
    FakeRun(
        "vq",
        bits=17.0,
        effect=-0.8,
        metrics={"usage/uniform_used_fraction": 0.632, "usage/used_fraction": 0.41},
    ),
    FakeRun("rvq", bits=17.0, effect=-0.2, failed={"utt03": "no speech found", "utt04": "no speech found"}),
    FakeRun("fsq", bits=16.84),
    FakeRun(
        "q2d2-hex",
        bits=16.84,
        effect=0.05,
        histograms=[np.arange(49), np.r_[np.zeros(9, int), np.full(40, 7)]],
        latents=[np.random.default_rng(i).uniform(-3.5, 3.5, (500, 2)).astype(np.float32) for i in range(2)],
    ),
    FakeRun("q2d2-rect", bits=16.84),
    FakeRun("q2d2-rhombic", bits=19.23, effect=0.2),
    FakeRun("q2d2-odd", status="diverged", reason="loss became NaN at step 40"),
]


@pytest.fixture(scope="session")
def seven(store: Store) -> Store:
    store.study("seven", SEVEN)
    return store


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """MLflow's own queries use a loader strategy that SQLAlchemy deprecates; not ours to mend."""
    for item in items:
        if "store" in getattr(item, "fixturenames", ()):
            item.add_marker(
                pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
            )


def codebook_slice(codes: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """What a run logs of a codebook in four dimensions."""
    book, latents = generator.normal(size=(codes, 4)), generator.normal(size=(300, 4))
    distances = (book[:, 2:] ** 2).sum(axis=1)
    found = {
        "points": book[:, :2],
        "distances": distances,
        "latents": latents[:, :2],
        "explained": [0.3, 0.25],
    }
    return {f"{name}_0": np.asarray(values) for name, values in found.items()}


def full_study() -> list[FakeRun]:
    """Four quantizers at three rates with three seeds, everything logged."""
    strength = {"vq": -0.5, "fsq": 0.0, "q2d2-hex": 0.3, "q2d2-rect": 0.05}
    trainings = np.random.default_rng(1)  # apart, so that what else is drawn changes no comparison
    runs = [FakeRun("none", bits=0.0, effect=2.0, seed=seed, audio=0.001) for seed in range(3)]
    for name, effect in strength.items():
        for level, bits in ((5, 13.4), (7, 16.47), (9, 18.8)):
            for seed in range(3):
                generator = np.random.default_rng([seed, level, *name.encode()])
                size = {5: 23, 7: 45, 9: 77}[level] if name == "q2d2-hex" else level**2
                planar = name.startswith("q2d2")
                tokens = generator.normal(size=(2000, 3)) * size / 5 + size / 2
                codes = tokens.round().clip(0, size - 1).astype(int)
                points = [np.tanh(generator.normal(size=(500, 2))) * level / 2 for _ in range(3)]
                joint = np.floor(np.tanh(generator.normal(size=(800, 2))) * level / 2 + level / 2).astype(int)
                runs.append(
                    FakeRun(
                        f"{name} {bits} bit",
                        quantizer=name,
                        bits=bits,
                        seed=seed,
                        effect=effect + 0.3 * (bits - 13) + 0.07 * trainings.normal(),
                        audio=0.02 / level,
                        params={"quantizer.options.levels": str([level] * 6)} if name != "vq" else {},
                        metrics={
                            "cost/real_time_factor": 0.01 + 0.002 * abs(effect),
                            "usage/used_fraction": 1.0 if planar else 0.9 - level / 20,
                        },
                        histograms=[np.bincount(column, minlength=size) for column in codes.T],
                        latents=points if name != "vq" else [],
                        pair_histograms=[np.bincount(joint @ [level, 1], minlength=level**2)] * 3
                        if name == "fsq"
                        else [],
                        slices=codebook_slice(size, generator) if name == "vq" else {},
                        snapshots={
                            "steps": np.array([0, 10, 40, 90]),
                            **{
                                f"pair_{i}": np.stack([x * k for k in (0.1, 0.4, 0.8, 1)])
                                for i, x in enumerate(points)
                            },
                        }
                        if name != "vq"
                        else {},
                    )
                )
    return runs


@pytest.fixture(scope="session")
def full(store: Store) -> Store:
    store.study("full", full_study())
    return store


@pytest.fixture(scope="session")
def gallery(store: Store) -> Store:
    """The full study by the labels of the shipped study `gallery`, with disturbed audio scored, too."""
    rates = {"13.4 bit": "12 bit", "16.47 bit": "15.5 bit", "18.8 bit": "19.1 bit"}
    runs = full_study()
    for run in runs:
        for old, new in rates.items():
            run.label = run.label.replace(old, new)
        for severity in (1, 5, 20):
            for metric in ("pesq", "stoi", "mel_distance"):
                run.metrics[f"robustness/drops/{severity}/{metric}"] = 1.5 - severity / 20
    store.study("gallery", runs)
    return store
