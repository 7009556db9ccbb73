"""`codecbench init`, `show-study`, `schema` and `ui`."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.commands.housekeeping import mlflow_ui
from experiments.commands.outputs import OutputError
from experiments.studies import files, plain_yaml, schema_file, study
from experiments.tracking.store import Store


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_init_writes_a_study_that_is_right_and_fits_the_schema() -> None:
    said("init", "my own.yaml", "--schema")
    text = Path("my own.yaml").read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=study.schema.json\n")
    assert text.count("#") > 15
    loaded = study.load("my own.yaml")
    assert loaded.name == "my-own"
    assert {choice.name for choice in loaded.quantizers} >= {"none", "fsq", "vq"}
    jsonschema.validate(plain_yaml.read(text), json.loads(Path("study.schema.json").read_text()))
    assert "my own.yaml exists already" in said("init", "my own.yaml", code=2)
    assert Path("my own.yaml").read_text(encoding="utf-8") == text
    said("init", "other")
    assert study.load("other.yaml").name == "other"
    assert "ends in .yaml or .yml" in said("init", "study.txt", code=2)


def test_every_line_that_init_offers_is_right_without_its_mark() -> None:
    """Keys that are commented out are keys, with values that can be."""
    text = files.template("own")
    offered = (
        "# batch_size",
        "# crop_seconds",
        "# learning_rate",
        "# robustness",
        "# references:",
        "# - {name",
    )
    lines = [line for line in text.splitlines() if line.lstrip().startswith(offered)]
    assert len(lines) == len(offered)
    for line in lines:
        study.check(plain_yaml.read(text.replace(line, line.replace("# ", "", 1))), "own.yaml")


@pytest.mark.parametrize("name", files.available())
def test_show_study_prints_the_file_and_the_whole_study(name: str) -> None:
    shipped = Path(files.__file__).parent / "shipped" / f"{name}.yaml"
    assert said("show-study", name) == shipped.read_text(encoding="utf-8")
    assert plain_yaml.read(said("show-study", name, "--whole")) == files.read(name)[0]


def test_show_study_of_nothing() -> None:
    assert "did you mean 'quickstart'?" in said("show-study", "quickstar", code=2)


def test_schema_is_written_and_printed() -> None:
    said("schema")
    assert Path("study.schema.json").read_text(encoding="utf-8") == schema_file.shipped()
    assert said("schema", "--output", "-") == schema_file.shipped()


def test_a_taken_port_is_told() -> None:
    with socket.socket() as taken:
        taken.bind((mlflow_ui.HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"port {port} is taken by another program; give a free port"):
            mlflow_ui._port(port)
    assert mlflow_ui._port(port) == port


def test_the_ui_of_nothing_and_of_a_server() -> None:
    assert "no tracking store at" in said("ui", "--tracking-uri", "sqlite:///none.db", code=2)
    assert not Path("none.db").exists()


# Where the tests run in the background of a shell, their children are started deaf to it.
HEARS_CTRL_C = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from experiments.cli import main
main()
"""


@pytest.mark.slow
def test_the_ui_answers_on_this_machine_alone_and_ends(tmp_path: Path) -> None:
    Store(f"sqlite:///{tmp_path}/mlflow.db", "seen")
    with socket.socket() as free:
        free.bind((mlflow_ui.HOST, 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", HEARS_CTRL_C, "ui", "--port", str(port)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"http://127.0.0.1:{port}\n"
        address = f"http://127.0.0.1:{port}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=seen"
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert json.load(answer)["experiment"]["name"] == "seen"
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout.close()
    assert process.wait(180) == 0
    with socket.socket() as tried:
        assert tried.connect_ex((mlflow_ui.HOST, port)) != 0
