"""Printed text: never read as markup, never obeyed by the terminal, tables for every width."""

import io
import os
import subprocess
import sys

import pytest

from experiments.commands.display.terminal import (
    Console,
    PlainTable,
    clipped,
    forget_impossible_size,
    printable,
)

HOSTILE = "Does [hex] beat [/rect]? [bold]q[/bold] :smile: \x1b[31m\x07\u202e"
SHOWN = "Does [hex] beat [/rect]? [bold]q[/bold] :smile: \\x1b[31m\\x07\\u202e"


def test_text_is_printed_as_it_is() -> None:
    file = io.StringIO()
    console = Console(file=file, width=200)
    console.say((HOSTILE, "bold"), f" {HOSTILE}")
    console.print(HOSTILE)
    table = PlainTable("[red]name[/red]", "text", texts=("text",))
    table.add(HOSTILE, (HOSTILE, "green"))
    console.table(table)
    text = file.getvalue()
    assert text.count(SHOWN) == 5
    assert "[red]name[/red]" in text
    assert "\x1b" not in text


def test_line_ends_in_a_name_do_not_make_lines() -> None:
    assert printable("a\nb\tc\u3000d\x9b") == "a\\nb\\tc\u3000d\\x9b"
    assert printable("plain ± ü 六") == "plain ± ü 六"
    assert printable("\udce4.wav") == "\\udce4.wav"  # a file name that is no UTF-8


def wide_table() -> PlainTable:
    table = PlainTable(
        "quantizer", "bits/frame", "off target", "sizes", "configuration", texts=("configuration",)
    )
    table.add(
        "q2d2-rhombic-released", "12.0000", "+0.00 %", "4,096 x 3", "levels=7 7 9 9 channels=8 spread=1"
    )
    table.add("fsq", "11.9", "-0.8 %", "10", "levels=10 10")
    return table


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_word_of_a_table_is_broken_and_each_panel_names_the_rows(width: int) -> None:
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=width, color_system=None).table(wide_table())
    text = file.getvalue()
    lines = [line.rstrip() for line in text.splitlines()]
    assert all(len(line) <= width for line in lines)
    words = set(text.split())
    for word in ("q2d2-rhombic-released", "bits/frame", "12.0000", "channels=8", "spread=1", "4,096"):
        assert word in words
    panels = sum(line.startswith("quantizer") for line in lines)
    assert sum(line.startswith("q2d2-rhombic-released") for line in lines) == panels
    assert (panels == 1) == (width >= 80)


@pytest.mark.parametrize("width", range(30, 130))
@pytest.mark.parametrize("ruled", [False, True])
def test_no_value_of_a_table_is_lost_and_keys_stand_in_each_panel(width: int, ruled: bool) -> None:
    head = ("source", "quantizer", "bits/value", "SNR dB", "± s.e.", "Shannon dB", "high rate dB", "gap dB")
    rows = [
        ("gaussian", "rvq-factorized", "1.000", "4.48", "0.03", "6.02", "4.49", "1.54"),
        ("correlated", "q2d2-hex", "2.000", "14.72", "0.04", "18.34", "16.81", "3.63"),
    ]
    table = PlainTable(*head, texts=("quantizer",), keys=3, ruled=ruled)
    for row in rows:
        table.add(*row)
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=width, color_system=None).table(table)
    lines = [line.split() for line in file.getvalue().splitlines() if line.strip(" ─")]
    panels = len(lines) // 3
    assert len(lines) == 3 * panels
    for number, row in enumerate((head, *rows)):
        shown = lines[number::3]
        assert {word for line in shown for word in line} == set(" ".join(row).split())
        kept = 3 if width >= 60 else 2 if width >= 50 else 1
        assert all(line[:kept] == list(row[:kept]) for line in shown)


def test_a_long_name_takes_half_of_the_width_and_the_columns_stay_beside_it() -> None:
    table = PlainTable("row", "bits/frame", "kbit/s", "tokens/s", "state", texts=("state",))
    label = "learned-lattice entropy-constrained 40 bit rate_weight=0.0003"
    table.add(label, "39.86", "6.644", "167", "3 to do")
    file = io.StringIO()
    Console(file=file, force_terminal=True, width=88, color_system=None).table(table)
    first, second, third = file.getvalue().splitlines()
    assert first.split() == ["row", "bits/frame", "kbit/s", "tokens/s", "state"]
    assert second.split() == [*label.split()[:-1], "39.86", "6.644", "167", "3", "to", "do"]
    assert third.strip() == "rate_weight=0.0003"


def test_a_table_in_a_file_is_not_cut() -> None:
    file = io.StringIO()
    Console(file=file).table(wide_table())
    assert "levels=7 7 9 9 channels=8 spread=1" in file.getvalue()


@pytest.mark.parametrize(
    ("width", "mark", "text"),
    [(20, "…", "loss 2.137"), (8, "…", "loss 2.…"), (8, "...", "loss ..."), (0, "…", "")],
)
def test_clipping(width: int, mark: str, text: str) -> None:
    assert clipped("loss 2.137", width, mark) == text


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "ascii"])
def test_output_that_is_not_utf_8_loses_letters_and_nothing_else(encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.cli", "list", "metrics"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout.decode(encoding)
    assert "pesq*" in text
    assert "* in the core set." in text


@pytest.mark.parametrize("size", ["0", "-1", "", "²", "1e3", "9" * 5000, "100000000"])
def test_a_size_that_no_terminal_has_is_not_believed(size: str) -> None:
    environment = {"COLUMNS": size, "LINES": size, "TERM": "xterm"}
    forget_impossible_size(environment)
    assert environment == {"TERM": "xterm"}
    file = io.StringIO()
    Console(file=file, force_terminal=True, color_system=None, _environ=environment).table(wide_table())
    assert "q2d2-rhombic-released" in file.getvalue()


def test_a_size_that_a_terminal_may_have_is_kept() -> None:
    environment = {"COLUMNS": "132", "LINES": "1"}
    forget_impossible_size(environment)
    assert environment == {"COLUMNS": "132", "LINES": "1"}
    forget_impossible_size({})
