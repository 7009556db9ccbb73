"""Runs with several budgets: each is scored, under its step, once, and again where the store lost nothing."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from experiments.execution import worker
from experiments.execution.jobs import Job, Settings
from experiments.studies import runs, study
from experiments.studies.runs import Run
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import Store
from tests.experiments.execution.test_damage import execute


@pytest.fixture(scope="module")
def budgeted(speech: Path, identify: Any) -> Run:
    asked = study.load(
        "quickstart",
        [
            *("quantizers=[fsq]", "bits=9", f"data=manifest:{speech}"),
            "backbone.options={width: 16, blocks: 1}",
            "train={decay_at: [3, 6], decay_share: 0.4, batch_size: 2, crop_seconds: 0.25, warmup_steps: 1, "
            "warm_start: {steps: 2}}",
            "evaluate={metrics: [mel_distance], audio_examples: 0}",
        ],
    )
    return runs.expand(asked, identify(asked.data.corpus))[0]


def test_every_budget_is_scored(budgeted: Run, settings: Settings, store: Store, link: Any) -> None:
    assert budgeted.train.steps == 6
    start = budgeted.warm_start()
    assert start is not None
    assert start.train.decay_at == ()
    assert execute([budgeted], settings, link) == [FINISHED]
    (logged,) = store.search(run_hash=budgeted.hash)
    run_id = logged.info.run_id
    scores = store.history(run_id, "budget/mel_distance")
    assert list(scores) == [3, 6]
    assert scores[3] != scores[6]
    assert scores[6] == logged.data.metrics["eval/mel_distance"]
    seconds = store.history(run_id, "budget/train_seconds")
    assert seconds[3] > 0
    assert seconds[6] == logged.data.metrics["cost/train_seconds"]

    again = settings.directory.with_name("elsewhere")  # a machine that has nothing on its disk
    elsewhere = Settings(store_uri=store.uri, study=store.study, parent_id="parent", directory=again)
    measured = budgeted.evaluate.model_copy(update={"metrics": ("mel_distance", "stoi")})
    other = dataclasses.replace(budgeted, evaluate=measured)
    assert other.training_hash == budgeted.training_hash
    assert worker.perform(Job(run=other), elsewhere, link).status == FINISHED
    print(sorted(path.name for path in (settings.directory / other.training_hash).iterdir()))
    assert (again / other.training_hash / "decayed-3.safetensors").exists()
    (logged,) = store.search(run_hash=other.hash)
    assert store.history(logged.info.run_id, "budget/mel_distance") == scores
    assert list(store.history(logged.info.run_id, "budget/stoi")) == [3, 6]
    points = store.client.get_metric_history(run_id, "budget/mel_distance")
    assert [point.step for point in points] == [3, 6]
    assert link.warnings == []
