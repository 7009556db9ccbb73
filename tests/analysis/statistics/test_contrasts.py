"""Planned contrasts: differences, their theory, table and figure, on stores whose answers are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from analysis import load
from analysis.figures.effects import _in_lines, effect_figure
from analysis.figures.style import style
from analysis.statistics.contrasts import contrasts, contrasts_of, contrasts_of_studies, has_contrasts
from analysis.statistics.intervals import paired_difference
from analysis.statistics.shape_gains import quality_per_bit, shape_bits
from analysis.tables.comparison import TableError
from analysis.tables.contrasts import contrast_table
from analysis.tables.formats import FORMATS, render
from experiments.cli import app
from experiments.tracking import schema

PLANNED = [
    {"effect": "tiling", "name": "", "of": "q2d2-hex", "less": "fsq"},
    {"effect": "learned codebook", "name": "VQ, finest", "of": "vq 18.8 bit", "less": "fsq 18.8 bit"},
    {"effect": "learned codebook", "name": "", "of": "vq", "less": "rvq"},  # which there is not
]


@pytest.fixture(scope="module")
def results(full: Any) -> Any:
    return replace(load("full", full.uri), contrasts=PLANNED)


def test_a_pair_of_series_is_compared_at_each_rate(results: Any) -> None:
    frame = contrasts(results, ["pesq"])
    assert [*zip(frame["of"], frame["less"], strict=True)] == [
        *((f"q2d2-hex {bits} bit", f"fsq {bits} bit") for bits in (13.4, 16.47, 18.8)),
        ("vq 18.8 bit", "fsq 18.8 bit"),
    ]
    assert frame["contrast"].tolist() == ["q2d2-hex less fsq"] * 3 + ["VQ, finest"]
    assert frame["seeds"].tolist() == [3] * 4
    scores = {
        label: results.scores("pesq", list(runs.sort_values("seed")["run_id"]))
        for label, runs in results.finished.groupby("label")
    }
    found = paired_difference(scores["fsq 13.4 bit"], scores["q2d2-hex 13.4 bit"])
    first = frame.iloc[0]
    assert (first["difference"], first["low"], first["high"]) == (found.mean, found.low, found.high)
    assert first["difference"] == pytest.approx(0.3 * 0.25, abs=0.03)  # as the store was made


def test_one_rate_is_shown_on_request(results: Any) -> None:
    everything = contrasts(results, ["pesq"])
    at_one = contrasts(results, ["pesq"], 2010.0)
    assert list(at_one["of"]) == ["q2d2-hex 13.4 bit"]
    of_all = everything[everything["of"] == "q2d2-hex 13.4 bit"]
    assert list(at_one["by_shape"]) == list(of_all["by_shape"])  # by the slope along all rates
    table = contrast_table([results], ["pesq"], bitrate=2010.0)
    assert [row.label for row in table.rows] == ["q2d2-hex less fsq"]
    with pytest.raises(TableError, match="has finished at 7 bit/s yet"):
        contrast_table([results], bitrate=7.0)


def test_chosen_effects_are_shown_in_their_order(results: Any) -> None:
    turned = contrasts_of_studies([results], ["pesq"], effects=["learned codebook", "tiling"])
    assert list(turned["effect"]) == ["learned codebook"] + ["tiling"] * 3
    table = contrast_table([results], ["pesq"], effects=["learned codebook"])
    assert [row.label for row in table.rows] == ["VQ, finest"]
    with pytest.raises(TableError, match="no contrast has the effect 'tilling'; known: 'tiling', 'learned"):
        contrast_table([results], effects=["tilling"])
    both = ["tiling", "learned codebook"]
    with pytest.raises(TableError, match="effect 'learned codebook' has finished at 2010 bit/s yet"):
        contrast_table([results], ["pesq"], bitrate=2010.0, effects=both)


def test_contrasts_that_were_added_later_are_marked(results: Any) -> None:
    later = replace(results, contrasts=[PLANNED[0], {**PLANNED[1], "planned": False}])
    table = contrast_table([later], ["pesq"])
    assert [row.label.endswith("(added later)") for row in table.rows] == [False, False, False, True]
    assert "planned, or added after runs had begun where it says (added later); its" in table.caption[0]
    everything = [{**one, "planned": False} for one in PLANNED]
    table = contrast_table([replace(results, contrasts=everything)], ["pesq"])
    assert "Each contrast was added after runs had begun; its" in table.caption[0]
    assert "Each contrast was planned; its" in contrast_table([results], ["pesq"]).caption[0]
    texts = [text.get_text() for text in effect_figure(contrasts(later, ["pesq"])).axes[0].get_yticklabels()]
    assert texts[-1] == "VQ, finest (added later)"


def test_shape_is_worth_a_thirtysixth_of_a_bit_per_channel() -> None:
    """5 / (36 sqrt 3) is the second moment of hexagons, 1 / 12 that of squares: 0.167 dB."""
    options = {"param/quantizer.options.levels": "[9, 9, 7, 7, 7, 7]"}
    hexagons, squares = {"quantizer": "q2d2-hex", **options}, {"quantizer": "fsq", **options}
    decibels = 10 * math.log10((1 / 12) / (5 / (36 * math.sqrt(3))))
    assert decibels == pytest.approx(0.167, abs=5e-4)
    assert shape_bits(hexagons, squares) == pytest.approx(6 * decibels / (20 * math.log10(2)))
    assert shape_bits(squares, hexagons) == pytest.approx(-shape_bits(hexagons, squares))
    fewer = {"quantizer": "fsq", "param/quantizer.options.levels": "[9, 9]"}
    for other in (fewer, {"quantizer": "vq"}, {"quantizer": "of a plug-in"}):
        assert math.isnan(shape_bits(hexagons, other))


def test_theory_is_bits_times_the_slope_of_quality(results: Any) -> None:
    means = results.finished.groupby("label")["eval/pesq"].mean()
    slope = (means["fsq 18.8 bit"] - means["fsq 16.47 bit"]) / (18.8 - 16.47)
    assert quality_per_bit(results, "fsq 18.8 bit", "pesq") == pytest.approx(slope)
    assert math.isnan(quality_per_bit(results, "fsq 18.8 bit", "wer"))
    frame = contrasts(results, ["pesq"])
    bits = 6 * math.log2((1 / 12) / (5 / (36 * math.sqrt(3)))) / 2
    assert frame["by_shape"].iloc[2] == pytest.approx(bits * slope)
    assert math.isnan(frame["by_shape"].iloc[3])  # a learned codebook has no such cells


def test_the_table_has_a_section_per_effect(results: Any) -> None:
    table = contrast_table([results], ["pesq", "stoi"])
    assert [section.title for section in table.sections] == ["tiling", "learned codebook"]
    assert table.rows[0].label == "q2d2-hex less fsq, 2.01 kbit/s"
    assert table.rows[-1].label == "VQ, finest"
    assert table.rows[-1].cells[0].mark == "best"  # 0.125 below, the seeds 0.02 apart
    for kind in FORMATS:
        assert "VQ, finest" in render(table, kind)
    assert render(table, "markdown").splitlines()[2].startswith("| difference | PESQ")
    with pytest.raises(TableError, match="bitrate is not one"):
        contrast_table([results], ["bitrate"])


def test_a_study_without_contrasts_says_what_to_do(seven: Any) -> None:
    plain = load("seven", seven.uri)
    assert contrasts_of(plain) == []
    assert not has_contrasts(plain)
    with pytest.raises(TableError, match="has no contrasts; add them under `contrasts`"):
        contrast_table([plain])


def test_a_store_keeps_the_contrasts_of_the_last_start(store: Any) -> None:
    """Fewer than before, in the same run: tags that were not written again are not read."""
    many = [{**PLANNED[0], "name": f"contrast {number}", "planned": number > 3} for number in range(20)]
    parent = store.study("replanned", [store.Run("fsq"), store.Run("q2d2-hex")])
    for wanted in (many, PLANNED, []):
        for key, value in schema.contrasts(wanted).items():
            assert "true" not in value  # which earlier versions would not read in an archive
            store.client.set_tag(parent, key, value)
        found = load("replanned", store.uri).contrasts
        assert list(found) == [{"planned": True, **one} for one in wanted]
    for damaged in ("[{", "3", '[{"effect": "x"}]', "[3]", "[" * 100_000):
        run = SimpleNamespace(data=SimpleNamespace(tags={f"{schema.Tag.CONTRASTS}0": damaged}))
        assert schema.contrasts_of(run) == []


def test_the_figure_draws_each_difference_and_theory(results: Any) -> None:
    frame = contrasts(results, ["pesq", "stoi"])
    figure = effect_figure(frame)
    panels = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_xlabel() for axes in panels] == ["PESQ ↑ (MOS-LQO)", "STOI ↑"]
    texts = [text.get_text() for text in panels[0].get_yticklabels()]
    assert texts == ["tiling", "learned codebook", "q2d2-hex less fsq", "VQ, finest"]
    drawn = [float(line.get_xdata()[0]) for line in panels[0].lines if len(line.get_xdata()) == 1]
    wanted = frame[frame["metric"] == "pesq"]
    for value in [*wanted["difference"], *wanted["by_shape"].dropna()]:
        assert np.isclose(drawn, value).any()


def test_the_command_prints_and_draws(store: Any, tmp_path: Path) -> None:
    runs = [store.Run(label, seed=seed) for label in ("fsq", "q2d2-hex") for seed in (0, 1)]
    parent = store.study("commanded", runs)
    for key, value in schema.contrasts(PLANNED[:1]).items():
        store.client.set_tag(parent, key, value)
    uri, picture = ["--tracking-uri", store.uri], tmp_path / "effects.svg"
    found = CliRunner().invoke(app, ["effects", "commanded", *uri, "--figure", str(picture)])
    assert found.exit_code == 0, found.output
    assert "q2d2-hex less fsq" in found.output
    assert "<svg" in picture.read_text()
    found = CliRunner().invoke(app, ["effects", "commanded", *uri, "--format", "json", "--columns", "pesq"])
    document = json.loads(found.output)
    assert document["sections"][0]["rows"][0]["label"] == "q2d2-hex less fsq"
    found = CliRunner().invoke(app, ["effects", "commanded", *uri, "--effect", "range"])
    assert found.exit_code != 0
    assert "no contrast has the effect 'range'; known: 'tiling'" in found.output


def test_rows_of_unequal_rates_are_told_and_long_lines_cut(results: Any) -> None:
    unequal = [
        {"effect": "rate", "name": "more bits", "of": "fsq 18.8 bit", "less": "fsq 13.4 bit"},
        {"effect": "rate", "name": "n" * 200, "of": "fsq 13.4 bit", "less": "vq 13.4 bit"},
    ]
    lines = [row.label for row in contrast_table([replace(results, contrasts=unequal)], ["pesq"]).rows]
    assert lines == ["more bits (2.82 against 2.01 kbit/s)", f"{'n' * 36}…{'n' * 35}"]


def test_several_studies_name_themselves_where_they_share_a_line(results: Any) -> None:
    other = replace(results, study="other", contrasts=PLANNED[:1])
    lines = [row.label for row in contrast_table([results, other], ["pesq"]).rows]
    assert lines[0] == "q2d2-hex less fsq (full), 2.01 kbit/s"
    assert lines[3] == "q2d2-hex less fsq (other), 2.01 kbit/s"
    assert lines[-1] == "VQ, finest"


@pytest.mark.parametrize(
    ("contrast", "lines"),
    [
        ("rhombs less squares (3.33 against 2.93 kbit/s)", 1),
        ("rhombs less hexagons, as released (3.33 against 2.93 kbit/s)", 2),
        ("hexagons, true (17.25) less released (added later)", 2),
        ("a name without a bitrate that is longer than any label may be in a figure", 1),
    ],
)
def test_bitrates_of_a_long_label_are_shown_whole(contrast: str, lines: int) -> None:
    label = _in_lines(contrast)
    assert label.count("\n") == lines - 1
    if "(" in contrast:
        assert label.replace("\n", " ") == contrast


def test_labels_of_two_lines_do_not_touch(results: Any) -> None:
    names = [f"{number}, a name that is as long as many are (and a bracket)" for number in range(12)]
    long = replace(results, contrasts=[{**PLANNED[1], "name": name} for name in names])
    with style("paper") as scale:
        figure = effect_figure(contrasts(long, ["pesq"]), scale)
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert len(boxes) == 1 + len(names)
    heights = sorted((box.y0, box.y1) for box in boxes)
    assert all(upper[0] > lower[1] for lower, upper in pairwise(heights))
