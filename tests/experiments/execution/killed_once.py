"""A study that is killed once, as soon as a training has a state: killed_once.py FOLDER STUDY

In FOLDER/whole it runs undisturbed; in FOLDER/killed all its processes are killed, and the same command is
given again. Prints exit codes, when it was killed (milliseconds of the epoch), and the trainings that had a
state.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from experiments.common.run_folder import STATE
from tests.experiments.execution.killed_study import end, sitting

MOST_SECONDS = 300.0


def killed_at_a_state(process: int, runs: Path) -> list[str]:
    """Kill a sitting when a training has saved a state; the hashes of those that have one."""
    deadline = time.monotonic() + MOST_SECONDS
    while time.monotonic() < deadline:
        if states := [path.parent.name for path in runs.glob(f"*/{STATE}")]:
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return states
        if os.waitpid(process, os.WNOHANG)[0]:
            break  # it ended before
        time.sleep(0.005)
    return []


def main(folder: Path, study: Path) -> None:
    whole, killed = folder / "whole", folder / "killed"
    for place in (whole, killed):
        place.mkdir()
    codes = [end(sitting(whole, study), MOST_SECONDS, "all")]
    states = killed_at_a_state(sitting(killed, study), killed / "runs")
    moment = int(time.time() * 1000)
    codes.append(end(sitting(killed, study), MOST_SECONDS, "all"))
    print(json.dumps({"codes": codes, "killed_at": moment, "states": states}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
