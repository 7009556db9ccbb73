"""One training, a row for every number of its first stages."""

import math
from pathlib import Path
from typing import Any

import mlflow
import pytest

from experiments.execution.jobs import Settings
from experiments.studies import row_rates, runs, study
from experiments.studies.runs import Run
from experiments.tracking.models.trained_codecs import load_codec
from experiments.tracking.schema import FINISHED
from experiments.tracking.store import Store
from tests.experiments.execution.test_damage import execute

OVERRIDES = [
    "quantizers=[{name: residual-fsq, label: staged, options: {stages: 3, dropout: 0.5}}, fsq]",
    "bits=null",
    "seeds=[0]",
    "backbone.options={width: 16, blocks: 1}",
    "train={steps: 4, batch_size: 2, crop_seconds: 0.25, warmup_steps: 1, warm_start: {steps: 2}}",
    "evaluate={metrics: [mel_distance], audio_examples: 0, stages: all}",
]


@pytest.fixture(scope="module")
def staged(speech: Path, identify: Any) -> list[Run]:
    asked = study.load("quickstart", [*OVERRIDES, f"data=manifest:{speech}"])
    return runs.expand(asked, identify(asked.data.corpus))


def test_rows_share_a_training_and_a_curve_and_nothing_else(staged: list[Run]) -> None:
    first = [run for run in staged if run.quantizer == "residual-fsq"]
    labels = ["staged", "staged first 2 of 3 stages", "staged first 1 of 3 stages"]
    assert [run.label for run in first] == labels
    assert [run.label for run in staged] == [*labels, "fsq"]
    assert len({run.training_hash for run in first}) == 1
    assert len({run.hash for run in first}) == 3
    assert {run.series for run in first} == {"staged"}


def test_a_study_without_them_is_as_before(speech: Path, identify: Any) -> None:
    plain = [each.replace(", stages: all", "") for each in OVERRIDES]
    asked = study.load("quickstart", [*plain, f"data=manifest:{speech}"])
    told = study.load("quickstart", [*OVERRIDES, f"data=manifest:{speech}"])
    corpus = identify(asked.data.corpus)
    before, after = runs.expand(asked, corpus), runs.expand(told, corpus)
    assert {run.hash for run in before} <= {run.hash for run in after}
    assert [run.label for run in before] == ["staged", "fsq"]
    assert before[0].resolved() == after[0].resolved()
    assert "stages" not in before[0].resolved()["evaluate"]


def test_rates_are_those_of_the_stages_and_do_not_count_as_unmatched() -> None:
    asked = study.load("quickstart", OVERRIDES)
    rates = {rate.label: rate for rate in row_rates.row_rates(asked)}
    whole = rates["staged"].bits_per_frame
    for stages in (1, 2):
        part = rates[f"staged first {stages} of 3 stages"]
        assert part.bits_per_frame == pytest.approx(whole * stages / 3)
        assert part.token_rate == pytest.approx(rates["staged"].token_rate * stages / 3)
    assert not any("first" in label for label in row_rates.unmatched(list(rates.values())))


def test_a_study_in_which_nothing_has_stages_is_refused() -> None:
    with pytest.raises(study.StudyError, match="needs a quantizer with several stages"):
        asked = study.load("quickstart", ["quantizers=[fsq]", "bits=9", "evaluate.stages=all"])
        runs.expand(asked, {})


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred:UserWarning")  # of MLflow's own classes
def test_each_number_of_stages_is_scored_after_one_training(
    staged: list[Run], settings: Settings, store: Store, link: Any
) -> None:
    first = [run for run in staged if run.quantizer == "residual-fsq"]
    assert execute(first, settings, link) == [FINISHED] * 3
    trained = sorted(path.name for path in settings.directory.iterdir() if path.is_dir())
    start = first[0].warm_start()
    assert start is not None
    assert {first[0].training_hash, start.training_hash} <= set(trained)
    found = {}
    for run in first:
        (logged,) = store.search(run_hash=run.hash)
        found[run.stages] = logged.data.metrics
        codec = load_codec(logged.info.run_id, store.uri, runs_folder=settings.directory)
        assert codec.quantizer.bits_per_frame == logged.data.metrics["rate/bits_per_frame"]
        (model,) = store.client.get_run(logged.info.run_id).outputs.model_outputs
        folder = mlflow.artifacts.download_artifacts(f"models:/{model.model_id}", tracking_uri=store.uri)
        loaded = mlflow.pyfunc.load_model(folder).get_raw_model()
        assert loaded.quantizer.bits_per_frame == codec.quantizer.bits_per_frame
        assert logged.data.metrics["eval/round_trip_exact"] == 1
    whole = found[None]
    for stages in (1, 2):
        assert found[stages]["rate/bitrate"] == pytest.approx(whole["rate/bitrate"] * stages / 3)
        assert found[stages]["rate/streams"] == stages
        assert found[stages]["eval/mel_distance"] != whole["eval/mel_distance"]
        assert found[stages]["cost/train_seconds"] == whole["cost/train_seconds"]


def test_channels_that_were_left_out_at_random_are_rows_too(
    speech: Path, identify: Any, settings: Settings, store: Store, link: Any
) -> None:
    choice = "quantizers=[{name: fsq, options: {levels: [8, 6, 5], dropout: 1.0}}]"
    asked = study.load("quickstart", [choice, *OVERRIDES[1:], f"data=manifest:{speech}"])
    rows = runs.expand(asked, identify(asked.data.corpus))
    assert [run.label for run in rows] == ["fsq", "fsq first 2 of 3 channels", "fsq first 1 of 3 channels"]
    assert execute(rows, settings, link) == [FINISHED] * 3
    bits = {None: math.log2(240), 2: math.log2(48), 1: 3.0}
    for run in rows:
        (logged,) = store.search(run_hash=run.hash)
        metrics = logged.data.metrics
        assert metrics["rate/bits_per_frame"] == pytest.approx(bits[run.stages])
        assert metrics["rate/entropy_bitrate"] <= metrics["rate/bitrate"] * (1 + 1e-9)
        assert metrics["eval/round_trip_exact"] == 1
