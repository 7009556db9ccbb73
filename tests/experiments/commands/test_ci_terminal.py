"""The terminal of the continuous integration: a size, the command's code, and no traceback."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / ".ci" / "in_terminal.py"


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        ("import os; print(os.get_terminal_size().columns, os.isatty(2))", 0),
        ("raise SystemExit(7)", 7),
        ("raise KeyError('label')", 1),
        ("import traceback; traceback.print_exception(KeyError('label').with_traceback(None))", 0),
        ("import sys; sys.stderr.write('Traceback (most recent call last):\\n')", 1),
        ("print('x' * 200_000)", 0),
    ],
)
def test_a_command_in_the_terminal(code: str, exit_code: int) -> None:
    command = [sys.executable, str(SCRIPT), "77", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == exit_code
    if "terminal_size" in code:
        assert done.stdout.split() == ["77", "True"]
    if "200_000" in code:
        assert done.stdout.count("x") == 200_000
