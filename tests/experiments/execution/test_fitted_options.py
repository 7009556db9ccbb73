"""Runs whose channels and levels wait for the features of the encoder that they start from."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

import quantizers
from experiments.common import tensor_files
from experiments.common.run_folder import OPTIONS, WEIGHTS
from experiments.execution import worker
from experiments.execution.jobs import Job, Settings
from experiments.planning.outline_cache import outline
from experiments.studies import row_rates, runs, study
from experiments.studies.runs import Run
from experiments.studies.study import Study, StudyError
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import Store
from tests.experiments.execution.test_damage import execute, model_files, seeded

ASKED = {"channels": "fit", "allocation": "water-filling"}


@pytest.fixture(scope="module")
def asked(speech: Path) -> Study:
    return study.load(
        "quickstart",
        [
            f"quantizers=[{{name: fsq, label: fitted, options: {json.dumps(ASKED)}}}, fsq]",
            *("bits=20", f"data=manifest:{speech}"),
            "backbone.options={width: 16, blocks: 1}",
            "train={steps: 4, batch_size: 2, crop_seconds: 0.25, warmup_steps: 1, log_every: 1, "
            "checkpoint_every: 1, warm_start: {steps: 2}}",
            "evaluate={metrics: [mel_distance], audio_examples: 0}",
        ],
    )


@pytest.fixture(scope="module")
def fitted(asked: Study, identify: Any) -> Run:
    return runs.expand(asked, identify(asked.data.corpus))[0]


def test_the_identity_is_of_what_was_asked(asked: Study, fitted: Run, identify: Any) -> None:
    assert fitted.asked == {**ASKED, "bits": 20.0}
    assert fitted.training_identity["quantizer"] == {"class": "FSQ", **ASKED, "bits": 20.0}
    decided = fitted.fitted(quantizers.validate("fsq", {"levels": [9, 8, 7]}))
    assert (decided.hash, decided.training_hash) == (fitted.hash, fitted.training_hash)
    assert decided.resolved()["quantizer"]["options"]["levels"] == [9, 8, 7]
    other = runs.expand(asked, identify(asked.data.corpus))[1]
    assert other.asked is None
    assert other.hash != fitted.hash
    start = fitted.warm_start()
    assert start is not None
    assert start.asked is None
    plain = other.warm_start()
    assert plain is not None
    assert start.training_hash == plain.training_hash


def test_rates_are_told_as_about(asked: Study) -> None:
    fitted, plain = row_rates.row_rates(asked)
    assert (fitted.about, plain.about) == (True, False)
    assert fitted.bits_per_frame == pytest.approx(20, rel=0.02)


def test_an_impossible_rate_is_refused_before_any_work() -> None:
    wrong = '[{name: fsq, options: {channels: 40, allocation: "water-filling"}}]'
    with pytest.raises(StudyError, match=r"40 blocks have 63\.4 bits at least, more than 20"):
        study.load("quickstart", [f"quantizers={wrong}", "bits=20"])
    with pytest.raises(StudyError, match="channels must be one of paper, fit"):
        study.load("quickstart", ["quantizers=[{name: fsq, options: {channels: fits}}]", "bits=20"])
    with pytest.raises(StudyError, match="only together with bits"):
        study.load(
            "quickstart", ["quantizers=[{name: fsq, options: {channels: fit}}]", "bits=null", "bitrate=null"]
        )


def test_levels_are_decided_once_and_logged(
    fitted: Run, settings: Settings, store: Store, link: Any, tmp_path: Path
) -> None:
    assert execute([fitted], settings, link) == [FINISHED]
    folder = settings.directory / fitted.training_hash
    options = json.loads((folder / OPTIONS).read_text())
    kept = model_files(store, fitted.hash) / WEIGHTS
    _, metadata = tensor_files.read(kept)
    assert json.loads(metadata["config"])["quantizer"] == {
        "name": "fsq",
        "options": options,
        "asked": fitted.asked,
    }
    (logged,) = store.search(run_hash=fitted.hash)
    assert json.loads(logged.data.params["quantizer.options.levels"]) == options["levels"]
    assert logged.data.params["quantizer.asked.channels"] == "fit"
    exact = quantizers.create("fsq", dim=16, **options).bits_per_frame
    assert logged.data.metrics["rate/bits_per_frame"] == pytest.approx(exact)
    assert abs(exact / 20 - 1) < 0.02
    assert len(set(options["levels"])) > 1
    note = logged.data.tags["mlflow.note.content"]
    assert note.startswith(
        f"**fitted**, seed 0: `fsq` at {logged.data.metrics['rate/bitrate'] / 1000:.2f} kbit/s ("
    )
    assert "trained 4 steps after a warm start of 2 steps. On the test set: mel_distance " in note
    assert note.endswith(f"[quickstart](#/experiments/{store.experiment_id}/runs/parent).")
    assert logged.data.tags["mlflow.source.name"] == "codecbench run tiny"

    # A machine that has nothing on its disk, and another evaluation: the trained weights know them, too.
    elsewhere = Settings(
        store_uri=store.uri, study=store.study, parent_id="parent", directory=tmp_path / "new"
    )
    measured = fitted.evaluate.model_copy(update={"metrics": ("mel_distance", "stoi")})
    other = dataclasses.replace(fitted, evaluate=measured)
    assert worker.perform(Job(run=other), elsewhere, link).status == FINISHED
    assert not (elsewhere.directory / other.training_hash / OPTIONS).exists()
    (again,) = store.search(run_hash=other.hash)
    assert again.data.params["quantizer.options.levels"] == logged.data.params["quantizer.options.levels"]
    assert again.data.metrics["eval/mel_distance"] == logged.data.metrics["eval/mel_distance"]


def test_a_training_that_goes_on_keeps_its_levels(
    fitted: Run, settings: Settings, store: Store, link: Any
) -> None:
    """Even where the features would decide otherwise now, as on another machine."""
    run = seeded(fitted, 1)
    folder = settings.directory / run.training_hash
    folder.mkdir(parents=True)
    (folder / OPTIONS).write_text(json.dumps({"levels": [31, 31, 31, 31]}))
    assert execute([run], settings, link) == [FINISHED]
    tensors, _ = tensor_files.read(model_files(store, run.hash) / WEIGHTS)
    assert len(tensors["quantizer.project_in.bias"]) == 4


def test_the_plan_says_about() -> None:
    rows = f"quantizers=[{{name: fsq, label: fitted, options: {json.dumps(ASKED)}}}, fsq]"
    planned = outline("quickstart", [rows, "bits=20"]).rates
    assert (planned["fitted"].about, planned["fsq"].about) == (True, False)
