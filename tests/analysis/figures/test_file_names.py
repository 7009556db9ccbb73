"""Labels as names of files: portable, short enough, and never two labels in one file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import load
from analysis.figures.catalogue import animations, differences
from analysis.figures.drawn import MOST_BYTES, file_name, file_names
from analysis.figures.style import MOST_LETTERS, shown
from analysis.figures.writing import Target, draw
from analysis.reports.paper import runs_behind, write_paper

ALIKE = [
    *("α=0.5", "β=0.5", "六角形", "矩形", "fsq (a)", "fsq [a]", "Hex", "hex"),
    *("e\u0301", "é", "🙂", "🙃", "..", "/", "con", "a/b", "a b"),
    *("x" * 300, "x" * 299 + "y", "矩" * 200, "矩" * 199 + "形"),
    *("tilings", "slice-hex", "training-hex"),
]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("q2d2-hex 18.8 bit", "q2d2-hex-18.8-bit"),
        ("fsq [v2]", "fsq-v2"),
        ("../../etc/passwd", "etc-passwd"),
        ("六角形 α=0.5", "六角形-α-0.5"),
        ("हिन्दी", "हिन्दी"),
        ("a\0b\nc", "a-b-c"),
        ("<b>&amp;</b>%20#?", "b-amp-b-20"),
        ("🙂", "unnamed"),
        ("", "unnamed"),
        ("\ud800x", "x"),
    ],
)
def test_names_keep_letters_of_all_alphabets(text: str, name: str) -> None:
    assert file_name(text) == name
    assert file_names([text]) == {text: name}


def test_two_labels_never_have_one_name() -> None:
    names = file_names(ALIKE)
    assert list(names) == ALIKE
    assert len({name.casefold() for name in names.values()}) == len(ALIKE)
    assert all(len(name.encode()) <= MOST_BYTES for name in names.values())
    assert all(not {"/", "\0", " "} & set(name) for name in names.values())
    assert names["α=0.5"] == "α-0.5"  # what is not alike keeps its name
    assert names["con"] == "con"
    assert names["fsq (a)"].startswith("fsq-a-")
    assert file_names(reversed(ALIKE)) == names  # whatever the order


def test_long_names_are_cut_between_letters() -> None:
    for length in range(50, 60):
        name = file_name("矩" * length + "a")
        assert len(name.encode()) <= MOST_BYTES
        assert "�" not in name
        assert name == "矩" * length + "a" or name.count("-") == 1


@pytest.fixture(scope="module")
def study(store: Any) -> Any:
    labels = ["α=0.5", "β=0.5", "fsq (a)", "fsq [a]", "Hex", "hex", "q2d2-hex", "x" * 300, "tilings"]
    runs = [
        store.Run(
            label,
            quantizer="q2d2-rect",
            params={"quantizer.options.levels": "[3, 3]", "quantizer.options.spread": f"{1 + place / 10}"},
            effect=float(place),
            seed=seed,
        )
        for place, label in enumerate(labels)
        for seed in range(1 + (place < 2))
    ]
    store.study("names", runs)
    return load("names", store.uri)


def test_every_label_has_a_figure_of_its_own(study: Any, tmp_path: Path) -> None:
    figures = draw(study, Target(tmp_path, "paper", ("svg",)), only=["voronoi"])
    labels = list(dict.fromkeys(study.runs["label"]))
    assert [figure.label for figure in figures] == labels
    assert len({figure.name for figure in figures}) == len(labels)
    assert len(list(tmp_path.glob("*.svg"))) == len(list(tmp_path.glob("*.csv"))) == len(labels)
    assert "voronoi-tilings" not in {figure.name for figure in figures}  # another figure's
    for figure in figures:
        shown = (tmp_path / f"{figure.name}.svg").read_text(encoding="utf-8")
        assert "spread" not in shown
        hashes = runs_behind(figure.label, figure.data, study)
        assert hashes == list(study.runs["run_hash"][study.runs["label"] == figure.label])
    assert list(animations(study)) == []


@pytest.mark.slow
def test_labels_that_look_like_commands_are_drawn_as_they_are(store: Any, tmp_path: Path) -> None:
    labels = ["$\\frac{a}$", "_hidden", "utterance", "x" * 200]
    runs = [
        store.Run(
            f"{label}{rate}",
            quantizer="q2d2-rect",
            bits=bits,
            seed=seed,
            effect=float(place) + bits,
            params={"quantizer.options.levels": "[3, 3]"},
            histograms=[np.arange(9)],
            audio=0.1,
        )
        for place, label in enumerate(labels)
        for bits, rate in ((12.0, ""), (14.0, " 14 bit"))
        for seed in (0, 1)
    ]
    store.study("commands", runs)
    results = load("commands", store.uri)
    figures = draw(results, Target(tmp_path, "paper", ("svg",)))
    kinds = {"utterances-pesq", "differences", "rate-distortion", "code-ranks", "learning-curves", "cost"}
    assert kinds <= {figure.name for figure in figures}
    assert shown("a $x$") == "a \\$x\\$"
    assert len(shown("x" * 200)) == MOST_LETTERS


def test_rates_that_round_to_one_number_have_figures_of_their_own(store: Any) -> None:
    bits = (16.0, 16.0, 16.0, 0.680, 0.680, 0.700, 0.700)  # 2.40, 0.102 and 0.105 kbit/s
    store.study("low", [store.Run(f"q{number}", bits=value) for number, value in enumerate(bits)])
    names = [drawn.name for drawn in differences(load("low", store.uri))]
    assert names == ["differences", "differences-at-0.102000-kbit", "differences-at-0.105000-kbit"]


def test_a_paper_traces_each_file_to_its_own_runs(store: Any, tmp_path: Path) -> None:
    levels = {"quantizer.options.levels": "[3, 3]"}
    runs = [store.Run(label, quantizer="q2d2-rect", params=levels) for label in ("α=0.5", "β=0.5", "x" * 250)]
    store.study("traced", runs)
    document = write_paper(load("traced", store.uri), tmp_path).read_text(encoding="utf-8")
    used = json.loads((tmp_path / "provenance.json").read_text(encoding="utf-8"))["files"]
    cells = {name: entry["runs"] for name, entry in used.items() if name.startswith("figures/voronoi-")}
    assert sorted(runs for (runs,) in {tuple(runs) for runs in cells.values()}) == sorted(
        f"{label}-0-17.0" for label in ("α=0.5", "β=0.5", "x" * 250)
    )
    figures = [name for name in cells if name.endswith(".pdf")]
    assert len(figures) == 3
    for name in figures:
        stem = name.removeprefix("figures/").removesuffix(".pdf")
        assert document.count(f"\\label{{fig:{stem}}}") == 1
