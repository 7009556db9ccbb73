"""`--quiet`, `--version` and the table of exit codes."""

import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from experiments.commands import guard, options
from experiments.commands.display.terminal import Console
from experiments.commands.progress import RunProgress, progress_bar
from experiments.execution.jobs import Update

ROOT = Path(__file__).parents[3]
SHOW_PROGRESS = {
    *("run", "plan", "train", "search", "export", "import_", "evaluate", "geometry", "source_coding"),
}


def test_every_command_that_shows_progress_can_be_quiet() -> None:
    quiet = set()
    for command in app.registered_commands:
        assert command.callback is not None
        hints = get_type_hints(command.callback, include_extras=True)
        if hints.get("quiet") == options.Quiet:
            quiet.add(command.callback.__name__)
            source = inspect.getsource(command.callback)
            assert "messages(quiet)" in source or "quiet=quiet" in source
    assert quiet >= SHOW_PROGRESS


@pytest.mark.parametrize("terminal", [False, True])
def test_a_quiet_run_tells_what_went_wrong_and_nothing_else(terminal: bool) -> None:
    screen = io.StringIO()
    console = Console(muted=True, file=screen, force_terminal=terminal, width=80, no_color=True)
    with RunProgress(console) as progress:
        todo = [SimpleNamespace(hash=key, label=key, seed=0, warm_start=lambda: None) for key in "kl"]
        progress.announce(todo, {"done"}, {"x": ("failed", "no memory")})
        for done in (0, 1, 2):
            progress.show(Update(key="k", stage="training", done=done, total=2))
        progress.show(Update(key="k", stage="warning: step 30: a codebook has collapsed"))
        progress.show(Update(key="k", outcome="finished"))
        progress.show(Update(key="l", outcome="failed"))
    with progress_bar(console) as show:
        show("preparing demo", 1, 2)
    lines = [line.partition(" (2 of")[0].strip() for line in screen.getvalue().splitlines()]
    assert lines == [
        "a run failed before (no memory); --retry trains it again",
        "k: warning: step 30: a codebook has collapsed",
        "failed l",
    ]


def test_quiet_geometry_prints_its_tables_alone() -> None:
    done = CliRunner().invoke(app, ["geometry", "--samples", "100", "--quiet"])
    assert done.exit_code == 0
    assert done.stderr == ""
    assert "second moment" in done.stdout


def test_the_version_comes_at_once() -> None:
    code = """
import sys, time
sys.argv = ["codecbench", "--version"]
from experiments.cli import main
try:
    main()
finally:
    heavy = {"torch", "numpy", "pandas", "mlflow", "pydantic", "scipy", "matplotlib"} & set(sys.modules)
    print("heavy:", sorted(heavy), "seconds:", time.process_time())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert re.fullmatch(r"codecbench \S+, Python 3\.\d+\.\S+, in .+", first)
    seconds = re.fullmatch(r"heavy: \[\] seconds: ([\d.]+)", second)
    assert seconds is not None
    assert float(seconds[1]) < 1


def test_the_page_has_every_exit_code() -> None:
    """The table of docs/commands.md has those of `guard`, in its words."""
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    table = page.partition("## Exit codes")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", table, flags=re.MULTILINE))
    codes = (guard.FAILED, guard.WRONG_INPUT, guard.STOPPED, guard.NO_READER)
    assert set(rows) == {"0", *map(str, codes)}
    for code, meaning in re.findall(r"^\| (\d+) \| (.+) \|$", guard.__doc__ or "", flags=re.MULTILINE):
        assert set(re.findall(r"\w+", meaning)) - set(re.findall(r"\w+", rows[code])) <= {"table", "STUDY"}
