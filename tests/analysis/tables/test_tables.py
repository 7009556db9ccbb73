import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis import load
from analysis.results.columns import ColumnError, select
from analysis.statistics.matched_rates import main_labels, rate_groups
from analysis.tables.comparison import TableError, comparison
from analysis.tables.console import console, console_text, print_table
from analysis.tables.formats import FormatError, render
from analysis.tables.table import Cell, Row, Section, Table

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def table(seven: Any) -> Table:
    return comparison(load("seven", seven.uri), ["all"])


def labels(table: Table) -> dict[str, list[str]]:
    return {section.title.split(" ")[0]: [row.label for row in section.rows] for section in table.sections}


def test_sections(table: Table) -> None:
    assert labels(table) == {
        "unquantized": ["none"],
        "at": ["vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect"],
        "more": ["q2d2-rhombic"],
        "no": ["q2d2-odd"],
    }


def test_failures_are_messages_not_numbers(table: Table) -> None:
    odd = next(row for row in table.rows if row.label == "q2d2-odd")
    assert odd.message == "diverged: loss became NaN at step 40"
    assert all(cell.value is None for cell in odd.cells)


def test_failed_utterances_are_counted_with_reasons(table: Table, seven: Any) -> None:
    scored = {row.label: row.cells[[c.key for c in table.columns].index("scored")].text for row in table.rows}
    assert scored["rvq"] == "10/12"
    assert scored["fsq"] == "12/12"
    note = "rvq: PESQ failed on 2 of 12 (2 x no speech found)"
    assert note in table.notes
    assert note in comparison(load("seven", seven.uri)).notes  # whether or not the column is shown


def test_caption_names_what_a_reader_must_know(table: Table) -> None:
    text = " ".join(table.caption)
    for part in (
        "protocol 1",
        "demo (synthetic speech",
        "0123456789ab",
        "12 test utterances",
        "seed 0",
        "one seed",
    ):
        assert part in text
    assert any("63.2 %" in note and note.startswith("vq") for note in table.notes)


@pytest.mark.parametrize("width", [200, 80])
def test_golden_console(table: Table, width: int) -> None:
    text = console_text(table, width)
    assert max(map(len, text.splitlines())) <= width
    assert text == (GOLDEN / f"comparison-{width}.txt").read_text(encoding="utf-8")


def test_quality_is_whole_and_first_at_80_columns(seven: Any) -> None:
    table = comparison(load("seven", seven.uri), ["bitrate", "pesq", "stoi", "mel_distance", "used_fraction"])
    text = console_text(table, 80)
    first = text.split("\n\n")[1]
    assert "…" not in text
    for value in ("bitrate", "PESQ ↑", "STOI ↑", "mel dist. ↓"):
        assert value in first
    one = next(row for row in table.rows if row.label == "q2d2-hex")
    assert f"{one.cells[2].value:.3f} ± " in first


def test_long_labels_are_broken_where_all_columns_fit_then() -> None:
    columns = select(["pesq", "stoi", "mel_distance"])
    row = Row("hexagons less fsq, paper's channels", tuple(Cell(-1.0, -1.5, -0.5) for _ in columns))
    contrasts = Table("contrasts", columns, (Section("tiling", (row,)),), ("Caption.",))
    needed = max(len(line) for line in console_text(contrasts, 200).splitlines())
    lines = console_text(contrasts, needed - 8).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("hexagons less fsq"))
    assert lines[at].count("±") == 3
    assert lines[at + 1] == "  channels"
    assert max(map(len, lines)) <= needed - 8
    # Where even short labels leave too little room, the labels stay whole, and columns follow below.
    panels = console_text(contrasts, needed - 20).splitlines()
    assert sum(line.startswith("hexagons less fsq, paper's channels") for line in panels) > 1


@pytest.mark.parametrize(
    ("kind", "suffix"), [("markdown", "md"), ("latex", "tex"), ("html", "html"), ("csv", "csv")]
)
def test_golden_files(table: Table, kind: str, suffix: str) -> None:
    assert render(table, kind) == (GOLDEN / f"comparison.{suffix}").read_text(encoding="utf-8")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_latex_compiles(store: Any, tmp_path: Path) -> None:
    hostile = store.Run("a_b & 50% #1 \\x {y} ~ ^ $z$ [w] <v> | u")
    store.study("latex", [hostile, store.Run("fsq", failed={"utt01": "100% silent_clip & more"})])
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}%s\\end{document}"
    body = render(comparison(load("latex", store.uri)), "latex")
    (tmp_path / "main.tex").write_text(document % body, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-1500:]
    assert "Overfull" not in done.stdout


def test_intervals_as_ranges(seven: Any) -> None:
    results = load("seven", seven.uri)
    plain, ranges = (
        comparison(results, ["pesq", "bitrate"], intervals=name) for name in ("plus-minus", "range")
    )
    cell = next(row for row in plain.rows if row.label == "fsq").cells[0]
    assert cell.low is not None
    assert cell.high is not None
    half = f"± {(cell.high - cell.low) / 2:.2f}"
    limits = f"[{cell.low:.2f}, {cell.high:.2f}]"
    for kind in ("console", "markdown", "html"):
        assert half in render(plain, kind)
        assert limits in render(ranges, kind).replace("\\", "")
    assert "{\\scriptsize $\\pm$" in render(plain, "latex")
    assert render(plain, "csv") == render(ranges, "csv")  # always the limits, at full precision
    assert "± half of the 95 % interval" in plain.caption[1]
    assert "[ ] 95 % interval" in ranges.caption[1]
    with pytest.raises(TableError, match="plus-minus, range"):
        comparison(results, ["pesq"], intervals="both")


def test_latex_groups_stand_over_their_own_columns(seven: Any) -> None:
    table = comparison(load("seven", seven.uri), ["bitrate", "pesq", "token_rate"])
    heads = re.findall(r"multicolumn\{(\d)\}\{c\}\{([^}]*)\}", render(table, "latex"))
    assert heads == [("1", "Rate"), ("1", "Quality"), ("1", "Rate")]


def test_unknown_names(table: Table, seven: Any) -> None:
    with pytest.raises(FormatError, match="markdown"):
        render(table, "xlsx")
    with pytest.raises(ColumnError, match="did you mean 'pesq'"):
        comparison(load("seven", seven.uri), ["peqs"])


def test_chosen_columns(seven: Any) -> None:
    small = comparison(load("seven", seven.uri), ["bitrate", "eval/stoi"])
    assert [column.header for column in small.columns] == ["bitrate", "STOI"]
    assert small.columns[1].arrow == "↑"  # a metric named in full is the same metric
    assert all(len(row.cells) == 2 for row in small.rows)


def test_seeds_are_averaged_and_a_lost_seed_is_told(store: Any) -> None:
    store.study(
        "seeds",
        [store.Run("fsq", seed=seed, effect=seed) for seed in (0, 1, 2)]
        + [store.Run("vq", seed=0), store.Run("vq", seed=1, status="failed", reason="out of memory")],
    )
    results = load("seeds", store.uri)
    table = comparison(results, ["stoi"])
    fsq = table.rows[0].cells[0]
    mine = results.runs[results.runs["label"] == "fsq"]
    assert fsq.value == pytest.approx(mine["eval/stoi"].mean())
    assert fsq.low is not None
    assert fsq.high is not None
    assert fsq.low < fsq.value < fsq.high  # type: ignore[operator]
    single = table.rows[1].cells[0]
    assert fsq.high - fsq.low > 2 * (single.high - single.low)  # type: ignore[operator]
    assert table.notes == ("vq: 1 of 2 seeds finished (seed 1 failed: out of memory)",)
    assert "3 seeds (0, 1, 2)" in table.caption[0]


def test_marks(full: Any) -> None:
    table = comparison(load("full", full.uri), ["pesq", "mel_distance"])
    at = next(section for section in table.sections if "2.82" in section.title)
    marks = {row.label: [cell.mark for cell in row.cells] for row in at.rows}
    assert marks["q2d2-hex 18.8 bit"][0] == "best"
    assert marks["vq 18.8 bit"] == ["worse", "best"]  # far behind by PESQ, least by distance
    assert marks["q2d2-rect 18.8 bit"][0] == "tied"
    assert all(not cell.mark for cell in table.rows[0].cells)  # the ceiling is not in the contest
    value = at.rows[[row.label for row in at.rows].index("vq 18.8 bit")].cells[0].value
    assert f"| †{value:.2f} ±" in render(table, "markdown")
    assert f"$^\\dagger${value:.2f} " in render(table, "latex")
    assert f">†{value:.2f} <" in render(table, "html")
    assert f"  †{value:.2f} ±" in render(table, "console")
    for text in (render(table, "markdown"), render(table, "html")):
        assert text.count("**" if text.startswith("**") else "<strong>") == (
            2 + 2 * 6 if text[0] == "*" else 7
        )


def test_the_best_is_starred_where_bold_cannot_be_seen(
    full: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = comparison(load("full", full.uri), ["pesq", "mel_distance"])
    best = next(row for row in table.rows if row.cells[0].mark == "best").cells[0].value
    monkeypatch.setenv("COLUMNS", "200")
    print_table(table)  # pytest's capture is no terminal
    piped = capsys.readouterr().out
    assert f"*{best:.2f} ±" in piped
    assert (
        "*: best at its rate; †: significantly worse; unmarked: no difference to the best was shown" in piped
    )
    assert "Bold" not in piped
    seen = Console(width=200, force_terminal=True)
    with seen.capture() as capture:
        seen.print(console(table, 200))
    assert re.search(rf"\x1b\[1m *{best:.2f} ±", capture.get())
    assert f"*{best:.2f}" not in capture.get()
    assert "*" not in render(table, "csv")


def test_one_seed_marks_nothing(table: Table) -> None:
    assert not any(cell.mark for row in table.rows for cell in row.cells)


def test_rows_of_each_other_corpus_are_compared_among_themselves(store: Any) -> None:
    """Those of one corpus and rate stand together, with a best one; corpora of one name by their hashes."""

    def scored(corpus: str, key: str, label: str, seed: int, **options: Any) -> Any:
        tags = {"corpus": corpus, "corpus_hash": key}
        return store.Run(label, seed=seed, effect=5.0 * label.startswith("vq"), tags=tags, **options)

    mine = [store.Run(label, seed=seed) for label in ("fsq", "vq") for seed in (0, 1)]
    others = [
        scored(name, key, f"{label} {place}", seed, metrics=pushed)
        for place, (name, key) in enumerate(
            (("noisy.csv", "f" * 16), ("test.csv", "e" * 16), ("test.csv", "d" * 16))
        )
        for label, pushed in (("fsq", {"usage/saturated_channels": 2.0, "usage/saturation": 0.5}), ("vq", {}))
        for seed in (0, 1)
    ]
    store.study("corpora", [*mine, *others])
    table = comparison(load("corpora", store.uri), columns=["pesq"])
    titles = [section.title for section in table.sections]
    assert [title.split(", at ")[0] for title in titles[1:]] == [
        "on noisy.csv (12 utterances)",
        "on test.csv (12 utterances, hash eeeeeeeeeeee)",
        "on test.csv (12 utterances, hash dddddddddddd)",
    ]
    for section in table.sections[1:]:
        assert section.title.endswith("not comparable with other sections")
        marks = {row.label.split()[0]: row.cells[0].mark for row in section.rows}
        assert marks["vq"] == "best"
        assert marks["fsq"] in ("worse", "tied")
    (saturated,) = [note for note in table.notes if note.startswith("! saturated")]
    assert all(f"fsq {place}" in saturated for place in range(3))


def test_a_label_on_several_corpora_is_not_compared(store: Any) -> None:
    """Its runs are paired by label, so those of two corpora would be pooled."""
    places = [{}, {"corpus": "b", "corpus_hash": "b" * 16}, {"protocol": "v0"}]
    runs = [
        store.Run(label, seed=seed, tags=tags) for label in ("fsq", "vq") for seed, tags in enumerate(places)
    ]
    store.study("again", runs)
    table = comparison(load("again", store.uri), columns=["pesq"])
    assert [section.title.split(" (")[0].split(", at ")[0] for section in table.sections[1:]] == [
        "on b",
        "by protocol v0",
    ]
    assert not any(section.comparable for section in table.sections[1:])


def test_other_corpus_is_set_apart(store: Any) -> None:
    other = store.Run("fsq-real", tags={"corpus": "real", "corpus_hash": "ffff"})
    store.study("mixed", [store.Run("fsq"), store.Run("vq"), other])
    table = comparison(load("mixed", store.uri), ["pesq"])
    assert [row.label for row in table.sections[-1].rows] == ["fsq-real"]
    assert table.sections[-1].title.startswith("on real (12 utterances), at ")


def test_scores_of_different_backends_are_marked(store: Any) -> None:
    newer = store.Run("rvq", backend="backend 1.1")
    store.study("backends", [store.Run("vq"), store.Run("fsq"), newer])
    notes = comparison(load("backends", store.uri)).notes
    (note,) = [note for note in notes if note.startswith("! PESQ was scored")]
    assert "backend 1.0: vq, fsq; backend 1.1: rvq" in note


def test_precisions_of_different_devices_are_marked(store: Any) -> None:
    runs = [store.Run(name, tags={"precision": value}) for name, value in (("vq", "bf16"), ("fsq", "fp32"))]
    store.study("precisions", [*runs, store.Run("older")])
    (note,) = [note for note in comparison(load("precisions", store.uri)).notes if "precision" in note]
    assert "bf16: vq; fp32: fsq)" in note


def test_warm_starts_of_different_weights_are_marked(store: Any) -> None:
    def run(label: str, weights: str, start: str, seed: int = 0) -> Any:
        return store.Run(label, seed=seed, tags={"starting_weights": weights, "warm_start": start})

    alike = [run("fsq", "dd", "start-1", 1), run("vq", "dd", "start-1", 1), run("rvq", "cc", "start-2")]
    drawn = [run("lfq", "ee", ""), run("bsq", "ff", ""), store.Run("older")]  # as with two backbones
    store.study("one machine", [*alike, *drawn])
    assert not [note for note in comparison(load("one machine", store.uri)).notes if "warm start" in note]
    apart = [run("vq", "aa", "start-0"), run("fsq", "bb", "start-0")]
    store.study("two machines", [*apart, *alike, *drawn])
    (note,) = [note for note in comparison(load("two machines", store.uri)).notes if "warm start" in note]
    assert "(seed 0: aa: vq; bb: fsq)" in note


def test_nothing_finished(store: Any) -> None:
    store.study(
        "lost", [store.Run("fsq", status="failed", reason="disk full"), store.Run("vq", status="running")]
    )
    table = comparison(load("lost", store.uri))
    assert [row.message for row in table.rows] == ["failed: disk full", "running"]
    assert "no run has finished" in table.caption[0]


def test_warm_start_is_told(store: Any) -> None:
    warm = {"train.warm_start.steps": "400"}
    store.study("warm", [store.Run("fsq", params=warm), store.Run("vq", params=warm)])
    assert (
        "unquantized for 400 steps, each then trained 100 steps"
        in comparison(load("warm", store.uri)).caption[-1]
    )


def test_the_checkpoint_of_a_warm_start_is_told_without_its_folder(store: Any) -> None:
    start = {"train.warm_start.steps": "None", "train.warm_start.checkpoint": "/home/me/wavtokenizer.ckpt"}
    store.study("start", [store.Run("fsq", params=start), store.Run("vq", params=start)])
    caption = comparison(load("start", store.uri)).caption
    assert caption[-1] == (
        "Encoder and decoder begin from the checkpoint wavtokenizer.ckpt, which states no licence; "
        "check its source."
    )


def test_rate_groups() -> None:
    rates = {"a": 1000.0, "b": 1019.0, "c": 985.0, "d": 2000.0, "e": 2010.0, "f": 3000.0}
    assert rate_groups(rates) == [["a", "b", "c"], ["d", "e"], ["f"]]
    assert rate_groups({"a": 1000.0, "b": 1021.0}) == [["b"], ["a"]]  # as many at both: the higher rate


def test_rates_of_an_axis_rise(store: Any) -> None:
    rates = (16.0, 12.0, 12.0, 8.0, 8.1, 16.2)  # the nearest pair would be the first
    store.study("axis", [store.Run(f"q{number} {bits} bit", bits=bits) for number, bits in enumerate(rates)])
    titles = [section.title for section in comparison(load("axis", store.uri), ["stoi"]).sections]
    assert [title.split(" ")[1] for title in titles] == ["1.21", "1.80", "2.42"]


def test_rates_as_asked(seven: Any) -> None:
    results = load("seven", seven.uri)
    at = comparison(results, ["stoi"], bitrate=19.23 * 150)
    assert [row.label for row in at.sections[1].rows] == ["q2d2-rhombic"]
    anyway = comparison(results, ["stoi"], allow_rate_mismatch=True)
    assert len(anyway.sections[1].rows) == 6
    assert "bitrates differ, as allowed" in anyway.sections[1].title


def test_the_study_may_allow_unequal_rates(store: Any) -> None:
    unequal = [store.Run("fsq", seed=seed) for seed in (0, 1)]
    unequal += [store.Run("vq", bits=19.0, seed=seed) for seed in (0, 1)]
    store.study("apart", unequal)
    apart = comparison(load("apart", store.uri), ["stoi"])
    assert [len(section.rows) for section in apart.sections] == [1, 1]
    assert not any(cell.mark for row in apart.rows for cell in row.cells)
    assert main_labels(load("apart", store.uri)) in (["fsq"], ["vq"])
    parent = store.study("unequal", unequal)
    store.client.log_param(parent, "allow_rate_mismatch", "true")
    table = comparison(load("unequal", store.uri), ["stoi"])
    (section,) = table.sections
    assert "bitrates differ, as allowed: 2.55 to 2.85 kbit/s" in section.title
    assert {cell.mark for row in section.rows for cell in row.cells} <= {"best", "tied", "worse", ""}
    assert any(cell.mark == "best" for row in section.rows for cell in row.cells)
    assert "a better score may be bought with bits alone" in table.caption[-1]
    assert main_labels(load("unequal", store.uri)) == ["fsq", "vq"]


def test_an_allowance_that_is_not_needed_changes_nothing(store: Any) -> None:
    parent = store.study("equal", [store.Run("fsq"), store.Run("vq")])
    store.client.log_param(parent, "allow_rate_mismatch", "true")
    table = comparison(load("equal", store.uri), ["stoi"])
    assert "within 2 %" in table.sections[0].title
    assert not any("allow_rate_mismatch" in line for line in table.caption)


def test_hostile_labels_are_escaped(store: Any) -> None:
    store.study("hostile", [store.Run("<b>a_b & 50% | #1\\x")])
    table = comparison(load("hostile", store.uri), ["stoi"])
    assert "<b>" not in render(table, "html")
    assert "&lt;b&gt;a_b &amp; 50% | #1\\x" in render(table, "html")
    assert "\\textless{}b\\textgreater{}a\\_b \\& 50\\% \\textbar{} \\#1\\textbackslash{}x" in render(
        table, "latex"
    )
    row = next(line for line in render(table, "markdown").splitlines() if "50%" in line)
    assert row.replace("\\|", "").count("|") == 3


def test_rows_with_saturated_channels_are_named(store: Any) -> None:
    pushed = {"usage/saturated_channels": 2.0, "usage/saturation": 0.51, "usage/effective_dimension": 3.25}
    fine = {"usage/saturated_channels": 0.0, "usage/saturation": 0.08, "usage/effective_dimension": 9.0}
    store.study(
        "saturated", [store.Run("fsq", metrics=pushed), store.Run("vq"), store.Run("hex", metrics=fine)]
    )
    results = load("saturated", store.uri)
    (note,) = [note for note in comparison(results).notes if "saturated" in note]
    assert note.startswith("! saturated: fsq (2.0 channels, 51 %). ")
    shown = render(
        comparison(results, columns=["saturation", "saturated_channels", "effective_dimension"]), "csv"
    )
    assert "51.0" in shown
    assert "3.2" in shown


def test_runs_without_a_coded_rate_show_none(store: Any) -> None:
    """Runs of before that metric was measured are missing in its column, not errors."""
    new = store.Run("fsq", metrics={"rate/coded": 2000.0, "rate/conditional_entropy_bitrate": 1500.0})
    store.study("half coded", [new, store.Run("vq"), store.Run("none", bits=0.0)])
    table = comparison(load("half coded", store.uri), ["coded", "conditional_entropy_bitrate"])
    shown = {row.label: [cell.value for cell in row.cells] for row in table.rows}
    assert shown == {"fsq": [2.0, 1.5], "vq": [None, None], "none": [None, None]}
    assert [column.arrow for column in table.columns] == ["↓", "↓"]
    store.study("not coded at all", [store.Run("vq")])
    nothing = comparison(load("not coded at all", store.uri), ["coded", "bitrate"])
    assert nothing.rows[0].cells[0].value is None
    assert render(nothing, "markdown")
