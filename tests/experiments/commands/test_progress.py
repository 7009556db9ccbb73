"""The progress of a study: rows for every width of a terminal, lines in a file, and the time that is left."""

import io
from types import SimpleNamespace
from typing import Any

import pytest
from rich.cells import cell_len

from experiments.commands.display.run_rows import Row, run_rows
from experiments.commands.display.terminal import Console
from experiments.commands.display.time_left import StudyClock, words
from experiments.commands.progress import Lines, RunProgress, progress_bar
from experiments.execution.jobs import Update

LABELS = ("none", "q2d2-rhombic-released 20 bit seed 2", "六角形 8 bit", "fsq [v2]")
LOSSES = "loss 2.137, mel 1.957, complex 0.180, quantizer 0.000, 0.2 steps/s, 12 s of audio/s"


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def rows() -> list[Row]:
    return [
        Row(LABELS[0], "training", 1200, 30_000, 5000.0, LOSSES),
        Row(LABELS[1], "reconstructing", 3, 408, 65.0),
        Row(LABELS[2], "logging"),
        Row(LABELS[3], "training", 30_000, 30_000, 0.0, LOSSES),
    ]


@pytest.mark.parametrize("ascii_only", [False, True])
@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
def test_names_are_whole_and_no_line_is_too_long(width: int, ascii_only: bool) -> None:
    lines = [line.plain for line in run_rows("0 of 4 runs", rows(), width, ascii_only=ascii_only)]
    for label in LABELS:
        assert any(line.startswith(label) for line in lines)
    assert all(cell_len(line) <= width for line in lines if line not in LABELS)  # a name is folded, not cut
    if ascii_only:
        assert all(line.isascii() for line in lines if not line.startswith(LABELS[2]))


def test_a_row_of_80_columns_has_stage_bar_count_and_time_and_one_of_200_the_losses() -> None:
    line = list(run_rows("", [Row("fsq", "training", 15_000, 30_000, 5000.0, LOSSES)], 80))[1].plain
    assert line == f"fsq  training        {12 * '━'}{12 * '─'}  15000/30000  83 min left"
    wide = list(run_rows("", [Row("fsq", "training", 15_000, 30_000, 5000.0, LOSSES)], 200))[1].plain
    assert wide == f"{line}   {LOSSES}"


def test_a_row_of_40_columns_stands_on_two_lines() -> None:
    title, *lines = [line.plain for line in run_rows("1 of 7 runs, about 3.5 h left", rows()[1:2], 40)]
    assert title == "1 of 7 runs, about 3.5 h left"
    assert lines == [LABELS[1], "  reconstructing  3/408  65 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (89, "89 s"), (90, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")]
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert words(seconds) == text


def test_time_left_of_a_study_whose_runs_go_at_a_steady_pace() -> None:
    """Four runs, two at once; each takes 10 s to start, 100 s to train and 20 s to score."""
    now = Clock()
    clock = StudyClock(now)
    clock.expect(["a", "b", "c", "d"])
    assert clock.text() == "0 of 4 runs"
    for key in ("a", "b"):
        clock.update(key, "starting", 0, 0)
    now.seconds += 10
    for step in range(101):  # the first update comes with the first steps done, or none
        for key in ("a", "b"):
            clock.update(key, "training", step, 100)
        if step == 50:
            assert clock.run_left("a") == pytest.approx(50)
            # Nothing is known of scoring yet: two trainings to go on with, two more to begin.
            assert clock.text() == "0 of 4 runs, at least 2 min left"
            assert clock.study_left() == pytest.approx((50 + 50 + 100 + 100) / 2)
        now.seconds += 1
    now.seconds -= 1
    for key in ("a", "b"):
        clock.update(key, "scoring", 0, 10)
    now.seconds += 20
    for key in ("a", "b"):
        clock.finish(key, "finished")
    assert clock.text() == "2 of 4 runs, about 2 min left"
    assert clock.study_left() == pytest.approx(130)
    clock.update("c", "starting", 0, 0)
    clock.update("d", "starting", 0, 0)
    now.seconds += 4
    assert clock.run_left("c") == pytest.approx(6 + 100 + 20)
    now.seconds += 6
    clock.update("c", "training", 0, 100)
    now.seconds += 10
    clock.update("c", "training", 10, 100)
    assert clock.run_left("c") == pytest.approx(90 + 20)
    clock.update("c", "scoring", 0, 10)
    now.seconds += 15  # no update yet: the mean of those before
    assert clock.run_left("c") == pytest.approx(5)


def test_a_resumed_training_is_no_measure_of_a_whole_one() -> None:
    now = Clock()
    clock = StudyClock(now)
    clock.expect(["a", "b"])
    clock.update("a", "training", 91, 100)
    now.seconds += 9
    clock.update("a", "training", 100, 100)
    now.seconds += 1
    clock.finish("a", "finished")
    assert clock.study_left() == pytest.approx(100)


def test_a_warm_start_is_no_run_and_failures_tell_nothing_of_time() -> None:
    now = Clock()
    clock = StudyClock(now)
    clock.expect(["a", "b"])
    clock.update("warm", "training", 0, 10)
    now.seconds += 5
    clock.update("warm", "training", 5, 10)
    assert clock.run_left("warm") == pytest.approx(5)
    assert clock.text() == "0 of 2 runs"
    clock.finish("warm", "finished")
    clock.update("a", "training", 0, 10)
    now.seconds += 1
    clock.finish("a", "failed")
    assert clock.text() == "1 of 2 runs"


def test_a_log_file_gets_a_line_a_minute_beside_changes_of_stage() -> None:
    now, said = Clock(), list[str]()
    lines = Lines(said.append, now=now)
    for step in range(601):
        lines.show(Update(key="k", stage="training", done=step, total=1200, text="loss 1.5"), "fsq [v2]")
        now.seconds += 1
    lines.show(Update(key="k", stage="warning: step 600: a codebook has collapsed"), "fsq [v2]")
    lines.show(Update(key="k", stage="logging"), "fsq [v2]")
    assert said[0] == "fsq [v2]: training, step 0 of 1200, loss 1.5"
    assert said[1] == "fsq [v2]: training, step 60 of 1200, loss 1.5, about 19 min left"
    assert said[10] == "fsq [v2]: training, step 600 of 1200, loss 1.5, about 10 min left"
    assert said[11:] == ["fsq [v2]: warning: step 600: a codebook has collapsed", "fsq [v2]: logging"]


def run(key: str, label: str, seed: int | None = 0, start: Any = None) -> Any:
    return SimpleNamespace(hash=key, label=label, seed=seed, warm_start=lambda: start)


@pytest.mark.parametrize(
    "label", ["fsq", "fsq [v2]", "hex [/edge]", "[bold]q[/bold]", "a\x1b[31mb\nc", ":cat:"]
)
@pytest.mark.parametrize("terminal", [False, True])
def test_labels_are_shown_as_they_are(label: str, terminal: bool) -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=80, no_color=True)
    shown = label.replace("\x1b", "\\x1b").replace("\n", "\\n")
    with RunProgress(console) as progress:
        progress.announce([run("k", label)], set(), {"x": ("failed", "[/rect]")})
        for stage, done in (("starting", 0), ("training", 1), ("training", 2), ("scoring", 1)):
            progress.show(Update(key="k", stage=stage, done=done, total=2, text="loss [1.0]"))
            progress._live.refresh()
        progress.show(Update(key="k", stage="warning: [/rect]"))
        progress.show(Update(key="k", outcome="finished"))
    text = screen.getvalue()
    assert "a run failed before ([/rect]); --retry trains it again" in text
    assert f"{shown}: warning: [/rect]" in text
    assert "1 run to do" in text
    assert text.count(f"finished {shown}") == 1
    assert "\x1b[31m" not in text
    if not terminal:
        assert f"finished {shown} (1 of 1 run)" in text
        assert f"{shown}: training, step 1 of 2, loss [1.0]" in text


def test_a_warning_names_its_run_and_stands_once() -> None:
    screen = io.StringIO()
    with RunProgress(Console(file=screen, width=80)) as progress:
        progress.announce([run("k", "vq", seed) for seed in (0, 1)], set(), {})
        progress.show(Update(key="k", stage="warning: step 30: 3 of 3 codebooks have collapsed"))
        progress.show(Update(key="unknown", stage="stopping: saving the runs under way"))
    lines = screen.getvalue().splitlines()
    assert lines[1:] == [
        "vq seed 1: warning: step 30: 3 of 3 codebooks have collapsed",
        "note: stopping: saving the runs under way",
    ]


def test_preparing_a_corpus_is_told_in_lines_without_a_terminal() -> None:
    screen = io.StringIO()
    with progress_bar(Console(file=screen)) as show:
        for done in range(101):
            show("preparing folder:[/rect]", done, 100)
    assert screen.getvalue().splitlines() == [
        "preparing folder:[/rect], 0 of 100",
        "preparing folder:[/rect], 100 of 100",
    ]
