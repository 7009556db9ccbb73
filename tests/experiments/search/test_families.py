"""Equal tuning: as many trials for each family, winners by validation, a table that tells tuned rows."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from analysis import load
from experiments.cli import app
from experiments.search import families
from experiments.search.space import SearchError
from experiments.studies import study
from experiments.studies.study import Study, StudyError

TINY = {
    "name": "tiny",
    "quantizers": ["fsq"],
    "bits": 12,
    "seeds": [0, 1],
    "backbone": {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}},
    "train": {
        "steps": 4,
        "batch_size": 2,
        "crop_seconds": 0.2,
        "warmup_steps": 1,
        "validate_every": 2,
    },
    "evaluate": {"metrics": ["mel_distance"], "audio_examples": 0, "snapshots": 0},
    "search": {
        "trials": 2,
        "families": [
            {"name": "fsq", "over": {"range": ["edge", "cell"]}},
            {"name": "vq", "label": "VQ", "over": {"heads": [1, 2]}, "options": {"commitment": 0.5}},
        ],
    },
}


def with_families(*given: dict[str, object], trials: int = 2) -> Study:
    return study.check({**TINY, "search": {"trials": trials, "families": list(given)}}, "tiny.yaml")


def test_every_family_of_the_shipped_study_gets_as_many_different_trials_at_the_rate() -> None:
    loaded = study.load("best-of-family")
    assert loaded.search is not None
    drawn = families.draw(loaded, 20.0)
    frame = pd.DataFrame(
        {"family": trial.family.row, "options": json.dumps(trial.choice.options), "bits": trial.bits}
        for trial in drawn
    )
    assert set(frame.groupby("family").size()) == {loaded.search.trials}
    assert not frame.duplicated(["family", "options"]).any()
    assert (frame["bits"] / 20 - 1).abs().max() <= 0.02
    for trial in drawn:
        if trial.number == 0:
            assert trial.choice.options == {
                **trial.family.options,
                **{name: values[0] for name, values in trial.family.over.items()},
            }


def test_combinations_of_one_configuration_count_once() -> None:
    same = with_families({"name": "fsq", "over": {"channels": ["paper", 4], "range": ["edge", "cell"]}})
    assert len(families.draw(same, 12.0)) == 2  # four channels are the paper's at 12 bits
    assert families.draw(same, 12.0) == families.draw(same, 12.0)
    with pytest.raises(SearchError, match=r"fsq has 2 combinations within 2% of 12 bits .* the 3 trials"):
        families.draw(
            with_families(
                {"name": "fsq", "over": {"channels": ["paper", 4], "range": ["edge", "cell"]}}, trials=3
            ),
            12.0,
        )


def test_what_cannot_be_is_refused_in_words() -> None:
    with pytest.raises(SearchError, match=r"fsq: over: range: wide cannot be: range must be one of"):
        families.draw(with_families({"name": "fsq", "over": {"range": ["wide", "edge", "cell"]}}), 12.0)
    with pytest.raises(
        SearchError, match=r"fsq: over: range: cel cannot be: range must be one of edge, cell"
    ):
        families.draw(with_families({"name": "fsq", "over": {"range": ["edge", "cell", "cel"]}}), 12.0)
    voronoi = {"name": "lattice", "over": {"bound": ["cube", "voronoi"]}}
    with pytest.raises(
        SearchError, match=r"over: bound: voronoi spends 12.68 bits per frame, more than 2% off"
    ):
        families.draw(with_families(voronoi), 12.0)
    with pytest.raises(SearchError, match="the trials take the first seed"):
        families.draw(with_families().model_copy(update={"seeds": (0,)}), 12.0)
    with pytest.raises(StudyError, match=r"range is both in options and in over"):
        with_families({"name": "fsq", "options": {"range": "edge"}, "over": {"range": ["edge"]}})
    with pytest.raises(StudyError, match="two families have the label 'fsq'"):
        with_families(
            {"name": "fsq", "over": {"range": ["edge"]}}, {"name": "fsq", "over": {"range": ["cell"]}}
        )
    several = study.check({**TINY, "bits": [12, 16]}, "tiny.yaml")
    with pytest.raises(SearchError, match="bits have several values"):
        families.draw(several, 12.0)


def test_winners_have_the_least_loss_and_broken_trials_cannot_win() -> None:
    loaded = study.check(TINY, "tiny.yaml")
    drawn = families.draw(loaded, 12.0)
    values = {"fsq": (2.0, 1.0), "VQ": (float("nan"), float("nan"))}
    frame = pd.DataFrame(
        {
            "family": trial.family.row,
            "trial": trial.number,
            "validation/loss": values[trial.family.row][trial.number],
        }
        for trial in drawn
    )
    best = families.winners(frame, "validation/loss")
    assert best == {"fsq": 1}
    tuned = study.check(families.tuned_study(loaded, drawn, best, 12.0), "tuned.yaml")
    assert [choice.row for choice in tuned.quantizers] == ["fsq", "fsq tuned"]
    assert tuned.quantizers[0].tuned == ""
    assert tuned.quantizers[1].tuned == "best of 2 trials by validation/loss, over range"
    assert tuned.quantizers[1].options == {"range": "cell"}
    assert tuned.seeds == (1,)  # no trial has seen it
    assert tuned.train == loaded.train
    assert [(one.of, one.less) for one in tuned.contrasts] == [("fsq tuned", "fsq")]
    both = families.tuned_study(loaded, drawn, {"fsq": 1, "VQ": 0}, 12.0)["contrasts"]
    assert [(one["of"], one["less"]) for one in both] == [("fsq tuned", "fsq"), ("VQ", "fsq tuned")]
    alone = families.tuned_study(loaded, drawn, {"fsq": 0}, 12.0)
    assert [row["label"] for row in alone["quantizers"]] == ["fsq"]
    assert alone["contrasts"] == []


@pytest.mark.slow
def test_from_the_search_to_a_table_that_tells_tuned_rows(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text(yaml.safe_dump({**TINY, "data": f"manifest:{speech}"}))
    done = CliRunner().invoke(app, ["search", "tiny.yaml", "--workers", "1"])
    assert done.exit_code == 0, done.output
    assert done.output.count("  best\n") == 2
    again = CliRunner().invoke(app, ["search", "tiny.yaml", "--workers", "1"])
    assert "starting" not in again.output
    assert again.output.count("  best\n") == 2
    trials = pd.read_csv("results/tiny/search/trials.csv")
    assert set(trials["status"]) == {"finished"}
    won = trials.loc[trials.groupby("family")["validation/loss"].idxmin()].set_index("family")["trial"]
    tuned = study.load("results/tiny/search/tuned.yaml")
    labels = {"VQ": {"VQ"}, "fsq": {"fsq"}}
    wanted = set().union(*(labels[name] | ({f"{name} tuned"} if won[name] else set()) for name in labels))
    assert {choice.row for choice in tuned.quantizers} == wanted
    done = CliRunner().invoke(
        app, ["run", "results/tiny/search/tuned.yaml", "--workers", "1", "--no-figures"]
    )
    assert done.exit_code == 0, done.output
    runs = load("tiny-tuned", "sqlite:///mlflow.db").runs
    assert set(runs["status"]) == {"finished"}
    caption = Path("results/tiny-tuned/tables/comparison.md").read_text()
    assert "Tuned rows, while the others have default options:" in caption
    assert "best of 2 trials by validation/loss, over range" in caption
