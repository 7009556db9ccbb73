"""Timing of a few training steps of each run, for plans on a machine that has trained nothing alike."""

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from experiments.common.flat_keys import flatten
from experiments.planning.costs import CPU, keep, relevant
from experiments.studies.runs import Run
from experiments.tracking.run_index import KnownRun
from experiments.training import distributed as processes
from experiments.training import trained_codec


def measure(runs: Sequence[Run], show: Callable[[str], None]) -> None:
    """Time a few steps of each of `runs`, and keep what they cost for later plans."""
    timed = []
    for run in runs:
        show(run.label)
        config = {**relevant(flatten(run.resolved())), "train.steps": "1"}
        # What comes before the first step cancels.
        step = max(_seconds(run, 13) - _seconds(run, 3), 1e-6) / 10
        tags = {"device": _device()}
        timed.append(KnownRun(tags=tags, params=config, metrics={"cost/train_seconds": step}))
    keep(timed)


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else CPU


def _seconds(run: Run, steps: int) -> float:
    """Seconds of the first `steps` steps of a training that is thrown away."""
    torch.set_num_threads(1)  # as a worker has
    seldom = {"log_every": 1_000, "validate_every": 1_000, "checkpoint_every": 1_000}
    short = run.train.model_copy(update={"steps": steps, "warm_start": None, **seldom})
    fabric = processes.single(torch.device(_device()))
    with tempfile.TemporaryDirectory() as folder:
        _, trained, _ = trained_codec.obtain(
            dataclasses.replace(run, train=short), Path(folder), fabric=fabric
        )
    return trained.seconds
