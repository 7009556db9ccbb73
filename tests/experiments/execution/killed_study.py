"""A study that is killed again and again: killed_study.py FOLDER STUDY KILLS SEED

In FOLDER/whole it runs undisturbed; in FOLDER/killed its processes are killed at random moments (all of them,
the runner alone, or a worker alone) and it is started anew, until it ends by itself. Prints what was done.

All is imported once and each sitting is forked from here, in place of a fork server's seconds of importing.
"""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pandas  # noqa: F401
import psutil
import torch
import torchaudio  # noqa: F401
from mlflow import MlflowClient  # noqa: F401

from experiments import cli
from experiments.common import child_processes
from experiments.execution import training_job  # noqa: F401

MOST_SITTINGS = 20  # after the kills


def sitting(folder: Path, study: Path) -> int:
    """Start `codecbench run` in a process group of its own; its process id."""
    process = os.fork()
    if process:
        os.setpgid(process, process)  # here as well: it may be killed before it does
        return process
    os.setpgid(0, 0)
    os.chdir(folder)
    out = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(out, 2)
    child_processes.context = lambda modules: multiprocessing.get_context("fork")  # type: ignore[assignment]
    sys.argv = ["codecbench", "run", str(study), "--no-figures", "--workers", "1"]
    code = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        os._exit(code)


def end(process: int, kill_after: float, victim: str) -> int | None:
    """Kill a sitting after so many seconds; its exit code where it ended before."""
    deadline = time.monotonic() + kill_after
    while time.monotonic() < deadline:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    workers = [child.pid for child in psutil.Process(process).children() if child.status() != "zombie"]
    if victim == "worker" and workers:
        os.kill(workers[-1], signal.SIGKILL)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    (os.kill if victim == "runner" else os.killpg)(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return None


def main(folder: Path, study: Path, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    whole, killed = folder / "whole", folder / "killed"
    for place in (whole, killed):
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
    started = time.monotonic()
    code = end(sitting(whole, study), 600, "all")
    seconds = time.monotonic() - started
    codes, moments = [], []
    for _ in range(kills):
        moments.append(
            (0.7 * seconds * draw.random() ** 2, draw.choice(["all", "all", "all", "runner", "worker"]))
        )
        codes.append(end(sitting(killed, study), *moments[-1]))
    while code == 0 and codes[-1] != 0 and len(codes) < kills + MOST_SITTINGS:
        codes.append(end(sitting(killed, study), 600, "all"))
    print(json.dumps({"undisturbed": code, "seconds": seconds, "codes": codes, "moments": moments}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
