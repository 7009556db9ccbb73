"""How many processes score the test set of a run, and how many threads decode its streams."""

import dataclasses
from typing import Any

import pytest

from experiments.evaluation import test_set
from experiments.execution import worker
from experiments.execution.context import Context
from experiments.execution.jobs import Job, Settings
from experiments.studies.runs import Run
from experiments.tracking.schema import FINISHED
from experiments.training import trained_codec


def test_a_job_hands_on_its_share_of_the_cores(
    tiny: Run, settings: Settings, link: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, train, asked = test_set.score, trained_codec.train, {}

    def counted(*arguments: Any, workers: int, **others: Any) -> Any:
        asked["scorers"] = workers
        return score(*arguments, **others)

    def watched(*arguments: Any, threads: int, **others: Any) -> Any:
        asked["threads"] = threads
        return train(*arguments, **others)

    monkeypatch.setattr(test_set, "score", counted)
    monkeypatch.setattr(trained_codec, "train", watched)
    monkeypatch.setattr(Context, "scorers", 3)  # as beside a GPU
    alone = tiny.train.model_copy(update={"warm_start": None, "start": "random"})
    job = Job(run=dataclasses.replace(tiny, train=alone))
    outcome = worker.perform(job, dataclasses.replace(settings, cores=7), link)
    assert outcome.status == FINISHED, outcome
    assert asked == {"scorers": 3, "threads": 7}
