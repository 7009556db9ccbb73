"""JSON documents of commands: valid by the shipped schemas, alone on stdout, as docs/json.md says."""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from experiments.cli import app
from experiments.commands.documents import bottlenecks, catalogue, document

ROOT = Path(__file__).parents[3]
SCHEMAS = {catalogue.name_of(model): json.loads(catalogue.shipped(model)) for model in catalogue.DOCUMENTS}


@pytest.fixture(scope="module")
def make_json() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_json", ROOT / "docs" / "make_json.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(text: str) -> dict[str, Any]:
    """The document in `text`, which holds nothing else, valid by the schema that it names."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads(text, parse_constant=refuse)
    assert next(iter(values)) == "schema"
    jsonschema.validate(values, SCHEMAS[values["schema"]], jsonschema.Draft202012Validator)
    assert text.isascii()
    return dict(values)


def said(*arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, [*arguments, "--format", "json"])
    assert done.exit_code == 0, done.output
    return checked(done.stdout)


def test_schemas_and_page_are_up_to_date(make_json: ModuleType) -> None:
    for path, text in make_json.files().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run python docs/make_json.py"
    kept = {path.name for path in make_json.SCHEMAS.iterdir()}
    assert kept == {catalogue.file_of(model) for model in catalogue.DOCUMENTS}


def test_schemas_are_schemas() -> None:
    for name, schema in SCHEMAS.items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert re.fullmatch(r"codecbench\.[a-z-]+/[1-9]\d*", name)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({"schema": name, "other": 1}, schema)


@pytest.mark.parametrize("what", ["quantizers", "studies", "metrics", "references"])
def test_lists(what: str) -> None:
    values = said("list", what)
    assert values["schema"] == f"codecbench.list-{what}/1"
    names = [one["name"] for one in values[what]]
    assert len(names) > 5
    assert {"quantizers": "fsq", "studies": "quickstart", "metrics": "pesq", "references": "opus"}[
        what
    ] in names


def test_rates() -> None:
    values = said("rates", "--bits", "12", "--frame-rate", "50", "fsq", "lattice", "none")
    fsq, lattice = values["quantizers"]  # `none` spends no bits
    assert fsq == {
        "name": "fsq",
        "bits_per_frame": 12.0,
        "off": 0.0,
        "streams": 1,
        "bitrate": 600.0,
        "token_rate": 50.0,
        "codebook_sizes": [4096],
        "options": {"levels": [8, 8, 8, 8]},
        "reason": "",
    }
    assert lattice["name"] == "lattice"
    huge = said("rates", "--bits", "0.01", "fsq")["quantizers"][0]
    assert huge["bits_per_frame"] is None
    assert huge["reason"]


def test_geometry_agrees_with_theory() -> None:
    values = said("geometry", "--samples", "2000")
    for lattice in values["lattices"]:
        assert abs(lattice["second_moment"] - lattice["exact"]) < 5 * lattice["error"] + 1e-9, lattice["name"]
    assert {grid["kind"] for grid in values["grids"]} >= {"hex", "rect", "rhombic"}


@pytest.mark.slow  # its worker imports torch
def test_source_coding(tmp_path: Path) -> None:
    arguments = ("--bits", "2", "--sources", "uniform", "--steps", "1", "--workers", "1")
    picture = tmp_path / "curves.png"
    values = said("source-coding", "fsq", *arguments, "--figure", str(picture))
    (point,) = values["points"]
    assert point["gap"] == pytest.approx(point["shannon"] - point["snr"])
    assert picture.exists()


def test_plan_keeps_the_keys_that_scripts_know(tmp_path: Path) -> None:
    values = said("plan", "quickstart", "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert values["study"] == "quickstart"
    assert {run["label"] for run in values["runs"]} >= {"fsq", "vq"}
    assert values["left"] == [run["hash"] for run in values["runs"]]
    assert {"states", "on_other_corpora", "where", "estimate", "store"} <= set(values)


def test_evaluate_also_of_what_cannot_be_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    clip = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    for folder, audio in (("ref", clip), ("dec", clip), ("silent", 0 * clip)):
        Path(folder).mkdir()
        soundfile.write(f"{folder}/u.wav", audio, 16_000)
    done = CliRunner().invoke(
        app,
        ["evaluate", "ref", "dec", "silent", "--metrics", "stoi", "--format", "json", "--summary", "s.csv"],
    )
    values = checked(done.stdout)
    first, second = values["systems"]
    (score,) = first["scores"]
    assert (score["asked"], score["scored"], score["failed"]) == (1, 1, 0)
    assert score["mean"] == pytest.approx(1, abs=1e-6)
    assert score["low"] is None  # one utterance has no interval
    assert second["scores"][0]["mean"] is None
    assert second["scores"][0]["failed"] == 1
    assert "wrote s.csv" in done.stderr


def test_a_process_prints_nothing_else() -> None:
    command = [sys.executable, "-m", "experiments.cli", "list", "studies", "--format", "json"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert len(checked(done.stdout)["studies"]) > 10
    assert done.stderr == ""


@pytest.mark.slow  # its process imports torch
def test_the_example_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "codecbench"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m experiments.cli "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    page = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec(compile(block, "json.md", "exec"), {})


def test_other_letters_survive(tmp_path: Path) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text("name: odd\nquestion: Größer?\nquantizers: [fsq, vq]\nbits: 12\n", encoding="utf-8")
    values = said("plan", str(file), "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    assert values["question"] == "Größer?"


def test_numbers_that_are_not_finite_are_null() -> None:
    values = dict.fromkeys(bottlenecks.SourcePoint.model_fields, math.nan)
    point = bottlenecks.SourcePoint.model_validate(
        {**values, "source": "x", "quantizer": "y", "snr": math.inf}
    )
    made = bottlenecks.SourceCodingDocument(points=[point], left_out={})
    shown = checked(document.text_of(made))["points"][0]
    assert shown["snr"] is None
    assert shown["gap"] is None
