"""The leaderboard of several studies: what it compares, what it marks, its page, its documents."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from analysis import load
from analysis.reports.leaderboard import page, write_leaderboard
from analysis.reports.output_folder import OutputError
from analysis.results.study_results import ResultsError
from analysis.statistics.leaders import leaders
from analysis.tables import published
from analysis.tables.leaderboard import Leaderboard, LeaderboardError, Level, Standing, leaderboard
from analysis.tables.published import Published
from experiments.cli import app
from experiments.commands.documents import catalogue
from experiments.tracking.schema import rows

HOSTILE = "<script>alert(1)</script> \"q\" 'a'"
MADE = {
    "backbone.name": "mdct-tiny",
    "backbone.width": "160",
    "train.batch_size": "8",
    "train.crop_seconds": "0.5",
}


def made(store: Any, label: str, *, seeds: int = 3, **options: Any) -> list[Any]:
    params = {**MADE, **options.pop("params", {})}
    return [store.Run(label, seed=seed, params=params, **options) for seed in range(seeds)]


@pytest.fixture(scope="module")
def studies(store: Any) -> list[str]:
    """Two studies of one corpus and backbone, which share a row, and a third of others."""
    shared = made(store, "fsq", bits=10.0)
    first = [*made(store, "vq", bits=10.0, effect=-3.0), *shared, *made(store, "rvq", bits=20.0)]
    first += made(store, "none", bits=0.0, effect=3.0)
    data = {"train.start": "data"}
    second = [
        *made(store, HOSTILE, bits=10.1, effect=4.0, params=data),
        *made(store, "one", bits=10.0, seeds=1),
    ]
    third = [
        *made(store, "wide", bits=10.0, params={"backbone.width": "320"}),
        *made(store, "long", bits=10.0, params={"train.steps": "200"}),
        *made(store, "elsewhere", bits=10.0, tags={"corpus": "other", "corpus_hash": "f" * 16}),
        *made(store, "reference", bits=40.0, seeds=1, quantizer="reference:opus", tags={"reference": "true"}),
        *made(store, "lost", bits=10.0, seeds=1, status="failed"),
    ]
    for name, runs in (("board-a", first), ("board-b", [*second, *shared]), ("board-c", third)):
        store.study(name, runs)
    return ["board-a", "board-b", "board-c"]


@pytest.fixture(scope="module")
def board(store: Any, studies: list[str]) -> Leaderboard:
    papers = [published.load(name) for name in published.available()]
    return leaderboard([load(name, store.uri) for name in studies], papers)


def levels(board: Leaderboard) -> list[tuple[str, Level]]:
    return [(band.title, level) for band in board.bands for one in band.boards for level in one.levels]


def level_of(board: Leaderboard, label: str) -> Level:
    (level,) = [level for _, level in levels(board) if label in [row.label for row in level.rows]]
    return level


def row_of(board: Leaderboard, label: str) -> Standing:
    return next(row for row in level_of(board, label).rows if row.label == label)


def test_rows_are_in_bands_of_their_bitrate(board: Leaderboard) -> None:
    places = {row.label: title for title, level in levels(board) for row in level.rows}
    assert places == {
        **dict.fromkeys(("vq", "fsq", HOSTILE, "one", "wide", "long", "elsewhere"), "1 to 2 kbit/s"),
        "rvq": "2 to 4 kbit/s",
        "reference": "4 to 8 kbit/s",
        "none": "No bitrate",
    }


def test_only_rows_that_were_made_alike_stand_together(board: Leaderboard) -> None:
    together = {row.label for row in level_of(board, "fsq").rows}
    assert together == {"vq", "fsq", HOSTILE, "one"}  # of two studies, one corpus, one backbone, one budget
    for label in ("wide", "long", "elsewhere", "reference", "rvq", "none"):
        assert [row.label for row in level_of(board, label).rows] == [label]
        assert not level_of(board, label).comparable
        assert {cell.mark for cell in row_of(board, label).cells.values()} == {""}


def test_runs_that_two_studies_share_are_one_row(board: Leaderboard, store: Any) -> None:
    row = row_of(board, "fsq")
    assert row.studies == ("board-a", "board-b")
    assert row.seeds == 3
    assert row_of(board, HOSTILE).start == "data"
    assert row.start == "random"


def test_values_are_those_of_the_studies_and_marks_are_those_of_leaders(
    store: Any, studies: list[str]
) -> None:
    results = load("board-a", store.uri)
    alone = leaderboard([results])
    runs = results.finished
    ahead = leaders(results, "pesq", ["vq", "fsq"])
    assert ahead is not None
    for label, mark in (("fsq", "best"), ("vq", "worse")):
        cell = row_of(alone, label).cells["pesq"]
        assert cell.value == pytest.approx(runs[runs["label"] == label]["eval/pesq"].mean())
        assert cell.mark == mark
        assert label == ahead.best if mark == "best" else label in ahead.worse


def test_the_best_of_comparable_rows_is_marked_and_comes_first(board: Leaderboard) -> None:
    level = level_of(board, "fsq")
    means = [row.cells["pesq"].value or 0 for row in level.rows]
    assert means == sorted(means, reverse=True)
    assert level.rows[0].label == HOSTILE
    marks = {row.label: row.cells["pesq"].mark for row in level.rows}
    assert marks[HOSTILE] == "best"
    assert marks["vq"] == "worse"
    assert marks["one"] == ""  # one seed shows nothing about trainings
    assert row_of(board, HOSTILE).cells["mel_distance"].mark == "worse"  # less of a distance is better


def test_published_numbers_are_apart_and_recalled_ones_left_out(board: Leaderboard) -> None:
    shown = [cells for band in board.bands for cells in band.published.values()]
    assert shown
    assert not any((cells["confidence"] == "M").any() for cells in shown)
    papers = [published.load(name) for name in published.available()]
    assert sum(map(len, shown)) + board.left_out == sum(len(paper.cells) for paper in papers)
    for band in board.bands:
        for cells in band.published.values():
            rates = cells["bitrate_kbps"]
            assert (
                rates.isna().all() if band.title == "No bitrate" else rates.between(band.low, band.high).all()
            )


@pytest.mark.parametrize("edges", [[], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [float("nan")]])
def test_edges_must_rise(store: Any, studies: list[str], edges: list[float]) -> None:
    with pytest.raises(LeaderboardError, match="rising"):
        leaderboard([load("board-a", store.uri)], edges=edges)


def test_studies_of_two_stores_are_refused(store: Any, studies: list[str]) -> None:
    from dataclasses import replace

    results = load("board-a", store.uri)
    with pytest.raises(ResultsError, match="one tracking store"):
        leaderboard([results, replace(results, tracking_uri="sqlite:///other.db")])


def test_the_page_escapes_names_and_asks_for_nothing(board: Leaderboard) -> None:
    text = page(board, f"All {HOSTILE}")
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert text.count("<script") == 1
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text)
    assert text.count("<strong>") == text.count("</strong>")
    assert "not measured here" in text


def test_names_of_papers_are_escaped(store: Any, studies: list[str]) -> None:
    paper = published.load("q2d2-librispeech-test-clean")
    hostile = Published(
        HOSTILE, paper.cells.assign(system=HOSTILE, confidence=HOSTILE), dict.fromkeys(paper.about, HOSTILE)
    )
    text = page(leaderboard([load("board-a", store.uri)], [hostile]))
    assert "<script>alert" not in text


def test_the_page_leaves_other_peoples_files_alone(board: Leaderboard, tmp_path: Path) -> None:
    assert write_leaderboard(board, tmp_path) == tmp_path / "index.html"
    first = (tmp_path / "index.html").read_bytes()
    write_leaderboard(board, tmp_path)  # an earlier one is replaced, by the same bytes
    assert (tmp_path / "index.html").read_bytes() == first
    other = tmp_path / "other"
    other.mkdir()
    (other / "index.html").write_text("mine")
    with pytest.raises(OutputError, match="was not written by"):
        write_leaderboard(board, other)
    assert (other / "index.html").read_text() == "mine"


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["leaderboard", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_document_has_the_rows_of_the_page(board: Leaderboard, store: Any, studies: list[str]) -> None:
    text = said(*studies, "--published", "--format", "json", "--tracking-uri", store.uri)
    values = json.loads(text)
    schema = {catalogue.name_of(model): catalogue.shipped(model) for model in catalogue.DOCUMENTS}
    jsonschema.validate(values, json.loads(schema[values["schema"]]))
    shown = [
        (band["title"], row["label"], row["scores"]["pesq"]["value"], row["scores"]["pesq"]["mark"])
        for band in values["bands"]
        for one in band["boards"]
        for level in one["levels"]
        for row in level["rows"]
    ]
    expected = [
        (title, row.label, row.cells["pesq"].value, row.cells["pesq"].mark)
        for title, level in levels(board)
        for row in level.rows
    ]
    assert shown == expected
    assert values["left_out"] == board.left_out


def test_csv_has_a_line_a_row_and_no_published_numbers(
    board: Leaderboard, store: Any, studies: list[str]
) -> None:
    text = said(*studies, "--format", "csv", "--tracking-uri", store.uri)
    lines = [*csv.DictReader(io.StringIO(text))]
    expected = [row for _, level in levels(board) for row in level.rows]
    assert [line["label"] for line in lines] == [row.label for row in expected]
    assert [float(line["pesq"]) for line in lines] == [row.cells["pesq"].value for row in expected]
    done = CliRunner().invoke(app, ["leaderboard", "board-a", "--published", "--format", "csv"])
    assert done.exit_code == 2


def test_columns_sort_within_a_bitrate(board: Leaderboard, tmp_path: Path, chromium: Any) -> None:
    chromium.get(write_leaderboard(board, tmp_path).as_uri())
    table = next(
        one
        for one in chromium.find_elements("css selector", "table")
        if "vq" in one.text and "fsq" in one.text
    )

    def labels() -> list[str]:
        return [cell.text for cell in table.find_elements("css selector", "th[scope=row]")]

    before = labels()
    head = next(one for one in table.find_elements("css selector", "thead button") if "PESQ" in one.text)
    head.click()
    rising = labels()
    head.click()
    assert rising == [*reversed(labels())]
    assert labels() == before  # the best first, as the page comes
    assert not [line for line in chromium.get_log("browser") if line["level"] == "SEVERE"]


def test_rows_of_a_store_that_lists_its_runs(store: Any) -> None:
    """A study whose parent lists runs by hash takes those of other studies, too."""
    runs = made(store, "listed", bits=10.0)
    store.study("board-d", runs)
    parent = store.study("board-e", [])
    hashes = {f"listed-{seed}-10.0": "listed" for seed in range(3)}
    for key, value in rows(hashes).items():
        store.client.set_tag(parent, key, value)
    both = leaderboard([load(name, store.uri) for name in ("board-d", "board-e")])
    assert row_of(both, "listed").studies == ("board-d", "board-e")
