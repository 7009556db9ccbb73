"""Options that commands share: one meaning each, and values that cannot be are refused at once."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
import typer
from typer.testing import CliRunner

from experiments.cli import app
from experiments.commands import options
from experiments.commands import search as search_command
from experiments.execution import study_runner
from experiments.studies import study

SHARED = {
    "--set": options.Changes,
    "--data": options.Corpus,
    "--runs": options.RunsFolder,
    "--workers": options.Workers,
    "--tracking-uri": options.TrackingUri,
    "--style": options.Style,
    "--quiet": options.Quiet,
    "--metrics": options.Metrics,
}


def names_of(annotation: object) -> list[str]:
    """The names of an option, as its annotation states them."""
    details = getattr(annotation, "__metadata__", ())
    return [name for detail in details for name in getattr(detail, "param_decls", None) or ()]


@pytest.mark.parametrize(
    "command", [each.callback for each in app.registered_commands], ids=lambda f: f.__name__
)
def test_a_shared_option_is_the_shared_one(command: object) -> None:
    assert callable(command)
    hints = get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters:
        annotation = hints[parameter]
        for name in names_of(annotation) or [f"--{parameter.replace('_', '-')}"]:
            if name in SHARED and getattr(annotation, "__metadata__", ()):
                assert annotation == SHARED[name], f"{parameter} of {command} is no option of options.py"


def test_search_takes_data_as_run_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also where the study has a list of corpora."""
    path = tmp_path / "two.yaml"
    path.write_text("name: two\nquantizers: [fsq]\nbits: 12\ndata: [demo, 'folder:x']\n")
    assert study.load(str(path), options.changes_of(None, "folder:y")).data.corpus == "folder:y"
    changes = options.changes_of(["bits=9"], "folder:y")  # what is given last counts
    assert study.load(str(path), changes).data.corpus == "folder:y"
    changes = options.changes_of(["data.test=folder:z"], "folder:y")  # and names only what is trained on
    assert study.load("quickstart", changes).data.test == "folder:z"
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["search", str(path)])
    assert result.exit_code == 2
    assert "a search uses one corpus, and this study has 2; choose one with --data" in result.output
    result = CliRunner().invoke(app, ["search", str(path), "--data", "folder:none"])
    assert result.exit_code == 2
    assert "folder:none" in result.output  # looked for, and not there
    assert "Optuna" not in result.output
    assert search_command.changes_of is options.changes_of


@pytest.mark.parametrize("command", [["run"], ["search"], ["plan", "--measure"]], ids=lambda words: words[0])
@pytest.mark.parametrize(
    "wrong", [["--device", "cuda:99"], ["--tracking-uri", "junk"]], ids=lambda words: words[0]
)
def test_device_and_store_are_looked_at_before_a_corpus_is_prepared(
    command: list[str], wrong: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Preparing may take hours."""
    if command[0] == "plan" and wrong[0] == "--device":
        pytest.skip("plan has no --device")
    prepared: list[object] = []
    monkeypatch.setattr(study_runner, "identify", lambda *given: prepared.append(given))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, [command[0], "search-tiling", *command[1:], *wrong])
    assert (result.exit_code, prepared) == (2, []), result.output
    assert wrong[1] in result.output


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "-inf", "1e400", "abc", "[/x]", ""])
def test_a_number_above_zero(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="give a number above 0"):
        options.number(0, above=True)(given)


def test_numbers_within_limits() -> None:
    assert options.number(0, above=True)("1e-9") == 1e-9
    assert options.number(2, 12)(12.0) == 12
    assert options.number(0)("0") == 0
    for given in ("1.99", "12.01"):
        with pytest.raises(typer.BadParameter, match="give a number of 2 or more, at most 12"):
            options.number(2, 12)(given)


@pytest.mark.parametrize("given", ["out/", "", ".", "..", "/", "a/.."])
def test_a_folder_is_no_file_name(given: str) -> None:
    with pytest.raises(typer.BadParameter, match="names a folder; give the name of a file"):
        options.file_name(given)


def test_names_are_taken_apart() -> None:
    assert options.file_name("a/b.csv") == Path("a/b.csv")
    assert options.names_of(" pesq,stoi ,pesq,", "--metrics") == ["pesq", "stoi"]
    with pytest.raises(typer.BadParameter, match="give at least one name"):
        options.names_of(" , ", "--metrics")


def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = """
import sys, time
sys.argv = ["codecbench", "--help"]
from experiments.cli import main
try:
    main()
finally:
    heavy = {"torch", "numpy", "pandas", "mlflow", "pydantic", "scipy", "matplotlib"} & set(sys.modules)
    print("heavy:", sorted(heavy), "seconds:", time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in done.stdout
    seconds = re.search(r"seconds: ([\d.]+)", done.stdout)
    assert seconds
    assert float(seconds[1]) < 1
