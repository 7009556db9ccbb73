"""Seconds of training steps on a device that is not here: counted operations over its stated speed."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from codec import backbones
from experiments.planning import live_outline, operations
from experiments.planning.device_speeds import DeviceSpeed
from experiments.planning.outline_cache import kept, planned_corpus
from experiments.studies import files
from experiments.studies.runs import Run


def seconds_of_steps(name: str, overrides: Sequence[str], speed: DeviceSpeed) -> dict[str, float]:
    """Seconds of a training step of each run of a study, by the hash of the run.

    To count takes seconds for each backbone; the counts are kept. Raises StudyError, DataError.
    """
    values, source = files.read(name)
    for override in overrides:
        files.override(values, override)
    fewer = files.leave_out_rows(overrides)
    corpora = [planned_corpus(*needed) for needed in live_outline.needed_corpora(values, source, fewer)]
    count = _Counts()
    return {
        key: run.train.batch_size
        * count.of_crop(run)
        / speed.of(run.train.precision, bool(getattr(run.train, "tf32", False)))
        for key, run in live_outline.trainings(values, source, corpora, fewer).items()
    }


class _Counts:
    """Operations of crops, each counted once, and kept in the cache."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def of_crop(self, run: Run) -> float:
        """FLOP of a step for each crop of the batch of `run`."""
        backbone = backbones.get(run.backbone, run.backbone_options)
        rate, objective = run.sample_rate, run.train.objective.objective()
        samples = round(run.train.crop_seconds * rate / backbone.hop) * backbone.hop
        codec = self._of(
            "operations of a codec",
            [asdict(backbone), samples],
            lambda: operations.of_codec(run.backbone, run.backbone_options, samples),
        )
        losses = self._of(
            "operations of losses",
            [asdict(objective), rate, samples],
            lambda: operations.of_objective(objective, rate, samples),
        )
        return codec + losses

    def _of(self, kind: str, what: list[Any], work: Callable[[], float]) -> float:
        key = json.dumps([kind, what], default=str)
        if key not in self._known:
            self._known[key] = kept(kind, what, work)
        return self._known[key]
