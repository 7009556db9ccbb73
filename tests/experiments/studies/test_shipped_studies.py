"""A seconds-long version of every shipped study, from its file to its table."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from analysis import load
from codec import backbones
from experiments.cli import app
from experiments.studies import study
from experiments.studies.study import Study

pytestmark = pytest.mark.slow

TINY = {"name": "mdct-tiny", "options": {"width": 16, "blocks": 1}}
SMALL = {"encoder_width": 4, "lstm_layers": 1, "dim": 32, "width": 32, "hidden": 32, "blocks": 1}
LARGEST = 12  # bits of a codebook: one of 2^20 vectors takes a while to log
# Asked for by `make test-long`: others vary the same keys, and each takes about ten seconds.
LONG = (
    *("base", "codebook-size", "gradients", "levels", "tilings-matched-rate", "quantizers-2026-soundstream"),
    *("soundstream-base", "soundstream-frozen", "soundstream-rates", "dimensions-soundstream"),
    *(
        "soundstream-starts",
        "soundstream-same-levels",
        "soundstream-unseen",
        "soundstream-metrics",
        "entropy-constrained",
    ),
    *("best-of-family-soundstream", "best-of-family-soundstream-1k", "soundstream-lattices"),
    *("soundstream-budget", "beyond-the-plane", "rate-distortion", "dimensions"),
    *("best-of-family", "search-tiling"),  # tests of searches search in less
    "paper",  # execution/test_paper_study.py does more with smaller discriminators
)
STUDIES = [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in study.available()]


def few(values: list[Any], most: int) -> list[Any]:
    """The one in the middle and the last, or the last alone."""
    return [values[index] for index in sorted({len(values) // 2, len(values) - 1})][-most:]


def seconds_long(loaded: Study, manifest: Path) -> dict[str, Any]:
    """Overrides that keep what a study varies, with few rows, and next to no work in each."""
    adversarial = loaded.train.objective.objective().adversarial
    quantizers = few(list(loaded.quantizers), 1 if loaded.axes else 2)
    choices = [choice.model_dump(exclude_none=True) for choice in quantizers]
    values: dict[str, Any] = {
        "quantizers": choices,
        "seeds": [0],
        "data.corpus": f"manifest:{manifest}",
        "backbone": TINY,
        "train.batch_size": 2,
        "train.crop_seconds": 0.3,
        "train.steps": 2,
        "evaluate.metrics": ["stoi"],
        "evaluate.audio_examples": 1,
        "references": [reference.name for reference in loaded.references[:1]],
    }
    if any("backbone.name" in axis.keys for axis in loaded.axes):
        values["backbone.options"] = SMALL | loaded.backbone.options
        del values["backbone"]
    if loaded.train.warm_start:
        values["train.warm_start"] = {"steps": 1}
    for axis in loaded.axes:
        for number, key in enumerate(axis.keys):
            # Discriminators have their published size, and take a minute of every cell.
            steps = axis.steps[-1:] if adversarial else (axis.steps[0], axis.steps[-1])
            asked = [step[number] for step in steps]
            values[key] = [shortened(key, value, place) for place, value in enumerate(asked)]
            if key == "data.test":
                values[key] = [value and "demo" for value in asked]
            if key == "bits" and any(choice["name"] == "vq" for choice in choices):
                values[key] = [min(value, LARGEST + place) for place, value in enumerate(asked)]
    return values


def shortened(key: str, value: Any, place: int) -> Any:
    if key == "train.steps":
        return 2 + place
    if key == "train.warm_start":
        return value and {"steps": 1}
    if key == "backbone":
        strides = getattr(backbones.get(value), "strides", None)
        small = {**SMALL, "strides": strides}
        return {"name": "wavtokenizer-small", "options": small} if strides else TINY
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all studies run: they share warm starts and a store, which takes a while to be made."""
    return tmp_path_factory.mktemp("shipped")


@pytest.mark.parametrize("name", STUDIES)
def test_runs_through(name: str, speech: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    loaded = study.load(name)
    overrides = [f"{key}={json.dumps(value)}" for key, value in seconds_long(loaded, speech).items()]
    arguments = [part for override in overrides for part in ("--set", override)]
    store = f"sqlite:///{folder}/store.db"
    options = ["--workers", "1", "--no-figures", "--tracking-uri", store]
    done = CliRunner().invoke(app, ["run", name, *arguments, *options])
    assert done.exit_code == 0, done.output
    results = load(name, store)
    wanted = [choice.row for cell in study.load(name, overrides).cells() for choice in cell.quantizers]
    assert sorted(results.runs["label"]) == sorted(wanted)
    assert set(results.runs["status"]) == {"finished"}
    assert len(results.references) == min(1, len(loaded.references))
    caption = (folder / "results" / name / "tables" / "comparison.md").read_text()
    coded = results.runs["rate/bitrate"][results.runs["rate/bitrate"] > 0]
    unequal = loaded.allow_rate_mismatch and coded.max() / coded.min() > 1.04
    assert ("may be bought with bits alone" in caption) == unequal
    again = CliRunner().invoke(app, ["plan", name, *arguments, "--tracking-uri", store])
    assert "nothing is left to run" in again.output
