"""Record `codecbench run quickstart` in a terminal, and put its picture, table and cells into the README.

    python docs/make_readme.py            # runs the study in a new folder: ten minutes, two idle cores
    python docs/make_readme.py --set train.steps=20 --output try      # a quick look, README left alone

Writes docs/images/quickstart.svg (the terminal while the study trains, and at its end),
docs/images/voronoi-tilings.svg, and the table between the `quickstart` comments of README.md. Needs pyte
(`pip install 'codecbench[docs]'`) and a system with pseudo-terminals.
"""

from __future__ import annotations

import argparse
import fcntl
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README, IMAGES = ROOT / "README.md", ROOT / "docs" / "images"
COLUMNS, ROWS = 92, 60  # of the terminal
MOMENT = 0.6  # of the run's time, at which the first picture is taken
TABLE = ("used_fraction", "pesq", "stoi", "mel_distance")
PROMPT = "$ codecbench run quickstart"


def record(command: Sequence[str], folder: Path) -> list[tuple[float, bytes]]:
    """What a command writes to a terminal of its own, with the seconds since its start.

    Raises SystemExit where the command fails.
    """
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    start = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdin=end, stdout=end, stderr=end, env=environment)
    os.close(end)
    written = []
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end was closed
            break
        if not piece:
            break
        written.append((time.monotonic() - start, piece))
    os.close(terminal)
    if process.wait() != 0:
        raise SystemExit(b"".join(piece for _, piece in written).decode(errors="replace"))
    return written


def screen_of(pieces: Sequence[bytes]) -> list[list[Any]]:
    """Lines of characters, with colour and weight, of a terminal after `pieces`, the oldest first."""
    import pyte

    screen = pyte.HistoryScreen(COLUMNS, ROWS, history=10_000)
    stream = pyte.ByteStream(screen)
    for piece in pieces:
        stream.feed(piece)
    lines = [*screen.history.top, *(screen.buffer[row] for row in range(ROWS))]
    return [[line[column] for column in range(COLUMNS)] for line in lines]


def text_of(line: Sequence[Any]) -> str:
    """The letters of a line."""
    return "".join(character.data for character in line).rstrip()


def pictured(lines: Sequence[Sequence[Any]]) -> str:
    """An SVG of a terminal that shows `lines`; it asks nothing of any server."""
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    for line in lines:
        text = Text()
        for character in line:
            colour = None if character.fg == "default" else _colour(character.fg)
            text.append(character.data, Style(color=colour, bold=character.bold, italic=character.italics))
        text.rstrip()
        console.print(text, overflow="ignore", no_wrap=True, crop=True)
    drawn = console.export_svg(title="codecbench", unique_id="quickstart")
    return re.sub(r"@font-face\s*\{.*?\}", "", drawn, flags=re.DOTALL)


def _colour(name: str) -> str:
    """A colour of pyte as rich knows it."""
    if re.fullmatch(r"[0-9a-fA-F]{6}", name):
        return f"#{name}"
    return re.sub("^bright", "bright_", name).replace("brown", "yellow")


def plain(text: str) -> list[Any]:
    """A line of default letters."""
    import pyte

    return [pyte.screens.Char(letter) for letter in text]


def between(text: str, name: str, content: str) -> str:
    """`text` with `content` between its comments of that name."""
    start, end = f"<!-- {name} -->", f"<!-- {name} ends -->"
    before, _, rest = text.partition(start)
    after = rest.partition(end)[2]
    if not rest or end not in rest:
        raise SystemExit(f"README.md has no {start} ... {end}")
    return f"{before}{start}\n{content}{end}{after}"


def main() -> None:
    """Run, record and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as of codecbench run"
    )
    parser.add_argument("--output", type=Path, help="write pictures and table there, and not into the README")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = [sys.executable, "-m", "experiments.cli", "run", "quickstart"]
        written = record([*command, *(word for value in given.set for word in ("--set", value))], folder)
        whole = [piece for _, piece in written]
        during = [piece for seconds, piece in written if seconds <= MOMENT * written[-1][0]]
        middle = [line for line in screen_of(during) if text_of(line)]
        lines = screen_of(whole)
        while not text_of(lines[-1]):
            lines.pop()
        last = next(
            place for place, line in enumerate(lines) if text_of(line).endswith("quantizers compared")
        )
        shown = [plain(PROMPT), *middle, plain(""), plain("..."), plain(""), *lines[last:]]

        from analysis import comparison, load, render
        from analysis.figures.writing import write_all

        uri = f"sqlite:///{folder / 'mlflow.db'}"
        results = load("quickstart", uri)
        table = render(comparison(results, TABLE), "markdown").split("\n\n", 1)[1]
        target = given.output or IMAGES
        target.mkdir(parents=True, exist_ok=True)
        (target / "quickstart.svg").write_text(pictured(shown), encoding="utf-8")
        write_all(results, folder / "drawn", formats=["svg"], only=["voronoi_tilings"], data=False)
        shutil.copyfile(folder / "drawn" / "voronoi-tilings.svg", target / "voronoi-tilings.svg")
    if given.output:
        (target / "table.md").write_text(table, encoding="utf-8")
    else:
        README.write_text(between(README.read_text(encoding="utf-8"), "quickstart", table), encoding="utf-8")
    print(f"wrote {target / 'quickstart.svg'}, {target / 'voronoi-tilings.svg'} and the table")


if __name__ == "__main__":
    main()
