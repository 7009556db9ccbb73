"""Figures of a study written to disk, in one process or several."""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.figures.catalogue import FIGURES, animations
from analysis.figures.cells.animation import has_ffmpeg, write_animation
from analysis.figures.style import save, style
from analysis.results.study_results import Results
from experiments.common import child_processes
from experiments.common.machine import cores

MOVING = ("gif", "mp4")  # formats of animations
KINDS = (*(make.__name__ for make in FIGURES), animations.__name__)  # what `only` may name
_PRELOADED = (
    *("matplotlib.figure", "matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg"),
    *("mlflow", "pandas", "scipy.stats", "torch", "analysis.figures.catalogue"),
)


class Written(NamedTuple):
    """A figure on disk: its name, its size in inches, its data, its files, and the label of the one system or
    the rate of the systems that it shows, if it shows one."""

    name: str
    size: tuple[float, float]
    data: pd.DataFrame
    paths: list[Path]
    label: str = ""
    rate: str = ""


class Target(NamedTuple):
    """Where figures go and how: `colours` is the number that a PNG is reduced to, None for all."""

    folder: Path
    style_name: str = "paper"
    formats: tuple[str, ...] = ("pdf", "svg", "png")
    data: bool = True
    colours: int | None = None


def draw(
    results: Results, target: Target, *, only: Iterable[str] | None = None, processes: int = 1
) -> list[Written]:
    """Write every figure (or `only` the kinds named) that the study has the data for, in a fixed order.

    processes: this one among them. Two halve the time on two cores; they are started afresh, so that a script
    must call this below `if __name__ == "__main__"`. The bytes are the same.

    Raises:
        StyleError: unknown style.
    """
    with begun(results, target, only=only, processes=processes) as finish:
        return finish()


@contextmanager
def begun(
    results: Results, target: Target, *, only: Iterable[str] | None = None, processes: int = 1
) -> Iterator[Callable[[], list[Written]]]:
    """`draw` in two parts: other processes begin now, and what is yielded draws here too, until all is drawn.

    Arguments, result and errors as of `draw`.
    """
    with style(target.style_name):
        pass  # a wrong name is told before any work
    wanted = None if only is None else set(only)
    kinds = [make.__name__ for make in FIGURES if wanted is None or make.__name__ in wanted]
    processes = min(processes, len(kinds))
    waiting = deque(kinds)
    drawn: dict[str, list[Written]] = {}
    elsewhere: list[Future[None]] = []

    def work(draw_one: Callable[[str], list[Written]]) -> None:
        while True:
            try:
                kind = waiting.popleft()
            except IndexError:  # nothing waits any more
                return
            drawn[kind] = draw_one(kind)

    def finish() -> list[Written]:
        work(lambda kind: _draw(results, kind, target))
        for one in elsewhere:
            one.result()
        return [figure for kind in kinds for figure in drawn[kind]]

    if processes < 2:
        yield finish
        return
    others = processes - 1
    _ = results.utterances  # read once, for all processes
    given = pickle.dumps((results, target))  # before this process draws, which adds to `results`
    with (
        ThreadPoolExecutor(others) as threads,  # one waits for each process
        child_processes.pool(others, _PRELOADED, _begin, (given,)) as pool,
    ):
        elsewhere += [
            threads.submit(work, lambda kind: pool.submit(_draw_there, kind).result()) for _ in range(others)
        ]
        try:
            yield finish
        finally:
            waiting.clear()


def write_all(
    results: Results,
    output: Path,
    *,
    style_name: str = "paper",
    formats: Sequence[str] = ("pdf", "svg", "png"),
    data: bool = True,
    only: Iterable[str] | None = None,
    processes: int = 1,
) -> list[Path]:
    """Write all figures, and the animations (`only` the kinds named), that the study has the data for.

    formats: of figures, and `gif` or `mp4` of animations; without ffmpeg there is no MP4. processes: as of
    `draw`. Returns the files.

    Raises:
        StyleError: unknown style.
    """
    wanted = None if only is None else set(only)
    still = tuple(kind for kind in formats if kind not in MOVING)
    moving = [kind for kind in formats if kind in MOVING and (kind != "mp4" or has_ffmpeg())]
    target = Target(output, style_name, still, data)
    written = [
        path for figure in draw(results, target, only=wanted, processes=processes) for path in figure.paths
    ]
    if moving and (wanted is None or animations.__name__ in wanted):
        with style(style_name) as scale:
            for name, shown in animations(results, scale):
                frames = list(shown)
                written += [write_animation(frames, output / f"{name}.{kind}") for kind in moving]
    return written


def prepare() -> None:
    """Let what other processes need be imported now, beside what this one does until it draws."""
    if cores() > 1:
        child_processes.start(_PRELOADED)


def _draw(results: Results, kind: str, target: Target) -> list[Written]:
    (make,) = (make for make in FIGURES if make.__name__ == kind)
    written = []
    with style(target.style_name) as scale:
        for drawn in make(results, scale):
            width, height = drawn.figure.get_size_inches()
            paths = save(
                drawn.figure,
                target.folder / drawn.name,
                target.formats,
                drawn.data if target.data else None,
            )
            if target.colours is not None:
                _reduce([path for path in paths if path.suffix == ".png"], target.colours)
            size = float(width), float(height)
            written.append(Written(drawn.name, size, drawn.data, paths, drawn.label, drawn.rate))
    return written


def _reduce(paths: Sequence[Path], colours: int) -> None:
    """Fewer colours: a third of the bytes, and no difference to see in a drawing."""
    from PIL import Image

    for path in paths:
        with Image.open(path) as image:
            few = image.convert("RGB").quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, optimize=True)


_given: tuple[Results, Target] | None = None  # of another process


def _begin(given: bytes) -> None:
    global _given
    _given = pickle.loads(given)  # of the process that started this one


def _draw_there(kind: str) -> list[Written]:
    assert _given is not None
    return _draw(_given[0], kind, _given[1])
