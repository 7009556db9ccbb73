"""The real command in a pseudo-terminal, and what it leaves behind when it is stopped."""

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

COMMAND = [sys.executable, "-m", "experiments.cli"]
LABELS = ("fsq [v2]", "hex [/edge] with a long name")
QUESTION = "Does [hex] beat [/rect] at 12 bit?"

Finished = tuple[Path, int, list[str]]
InTerminal = Callable[..., tuple[int, list[str]]]

pytestmark = pytest.mark.slow


def check_display(code: int, lines: list[str], columns: int) -> None:
    assert code == 0, "\n".join(lines[-30:])
    assert f"tiny: {QUESTION}" in lines
    assert max(len(line) for line in lines if "mlflow ui" not in line) <= columns
    rows = [line for line in lines if re.search(r"training .*\d+/30", line)]
    assert {label for label in LABELS if any(row.startswith(label) for row in rows)} == set(LABELS)
    assert any(re.search(r"[━─]{8,} +\d+/30 +\d+ s left", row) for row in rows)
    assert any("loss" in row for row in rows) == (columns > 80)
    assert any(re.fullmatch(r"[01] of 2 runs, (at least|about) \d+ (s|min) left *", line) for line in lines)
    for label in LABELS:
        assert lines.count(f"finished {label}") == 1
    text = "".join(lines[-2:]).replace(" ", "")
    assert "tablesinresults/tiny;weightsinruns;trackinginsqlite:///mlflow.db" in text


def test_a_study_in_80_columns(finished: Finished) -> None:
    _, code, lines = finished
    check_display(code, lines, 80)


@pytest.mark.long
def test_a_study_in_120_columns(study: str, terminal: InTerminal, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(study)
    code, lines = terminal(120, tmp_path, "run", "tiny.yaml", "--workers", "2", "--no-figures")
    check_display(code, lines, 120)


def test_tables_and_errors_in_a_narrow_terminal(finished: Finished, terminal: InTerminal) -> None:
    folder, _, _ = finished
    code, lines = terminal(40, folder, "plan", "tiny.yaml")
    assert code == 0
    assert max(map(len, lines)) <= 40
    first, then = "hex [/edge] with a", "long name"  # a name takes half of a line at most
    assert f"{first} {then}" == LABELS[1]
    assert any(one.startswith(first) and two.strip() == then for one, two in pairwise(lines))
    code, lines = terminal(40, folder, "table", "[/rect]")
    assert code == 2
    assert "error: no study '[/rect]' in" in " ".join(" ".join(lines).split())


def processes(mark: str) -> list[psutil.Process]:
    """Processes that were started with a mark in their environment."""
    marked = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("CODECBENCH_TEST") == mark and process.status() != "zombie":
                marked.append(process)
        except psutil.Error:
            continue
    return marked


@pytest.fixture
def mark() -> Iterator[str]:
    name = uuid.uuid4().hex
    yield name
    for process in processes(name):
        process.kill()


def stop(command: list[str], folder: Path, mark: str, number: signal.Signals, least: int) -> None:
    """Start a command, send a signal when it has `least` processes, and see that all of them end."""
    with subprocess.Popen(
        command,
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CODECBENCH_TEST": mark},
    ) as process:
        deadline = time.monotonic() + 200
        while len(processes(mark)) < least:
            assert process.poll() is None, "ended before it could be stopped"
            assert time.monotonic() < deadline, "has no workers"
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert process.returncode == 130, said
        assert "stopped; nothing that was saved is lost" in said
        assert "Traceback" not in said
    deadline = time.monotonic() + 30
    while left := processes(mark):
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.2)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGKILL, marks=pytest.mark.long)])
def test_figures_that_are_stopped_leave_no_process_behind(
    number: signal.Signals, finished: Finished, mark: str
) -> None:
    """The command, its fork server, the tracker of its semaphores, and a worker."""
    folder, _, _ = finished
    stop([*COMMAND, "figures", "tiny", "--output", f"figures-{mark}"], folder, mark, number, 4)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_scoring_that_is_stopped_leaves_no_process_behind(
    number: signal.Signals, tmp_path: Path, mark: str
) -> None:
    random = np.random.default_rng(0)
    for name in range(200):
        clip = 0.1 * random.standard_normal(16_000 * 4)
        for folder in ("reference", "decoded"):
            (tmp_path / folder).mkdir(exist_ok=True)
            soundfile.write(tmp_path / folder / f"{name}.wav", clip, 16_000)
    metrics = ["--metrics", "pesq,dnsmos_ovrl", "--workers", "2"]
    stop([*COMMAND, "evaluate", "reference", "decoded", *metrics], tmp_path, mark, number, 5)
