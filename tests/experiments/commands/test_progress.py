"""The progress of a study, as a terminal shows it."""

import io

import pytest
from rich.console import Console

from experiments.commands.progress import RunProgress
from experiments.execution.jobs import Update


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_run_can_pass_from_stage_to_stage_in_a_terminal(width: int) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width)
    with RunProgress(console) as progress:
        progress._labels["k"] = "fsq"
        for stage, done in (("starting", 0), ("training", 1), ("training", 2), ("scoring", 1)):
            progress.show(Update("k", stage, done, 2, "loss 1.0"))
            progress._bars.refresh()
        progress.show(Update("k", outcome="finished"))
    assert "finished" in screen.getvalue()
    assert "fsq" in screen.getvalue()
