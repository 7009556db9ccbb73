from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from analysis import figures, load
from analysis.estimates import series, summary
from analysis.learning import curves
from analysis.rate_distortion import has_curves
from analysis.results import Results
from analysis.spectrograms import decibels
from analysis.style import STYLES, appearance, style
from analysis.trade_offs import pareto
from analysis.utilisation import ranks, sizes

QUICK = [make for make in figures.FIGURES if make is not figures.voronoi]
NAMES = [
    "rate-distortion",
    "bd-rates",
    "learning-curves",
    "code-ranks",
    "utilisation",
    "cost",
    "utterances-pesq",
    "differences",
    "ranks-pesq",
    "spectrograms",
]


@pytest.fixture(scope="module")
def results(full: Any) -> Results:
    return load("full", full.uri)


def test_every_figure_is_written_with_its_data(results: Results, tmp_path: Path) -> None:
    only = [make.__name__ for make in QUICK]
    written = figures.write_all(results, tmp_path / "a", formats=["svg"], only=only)
    assert [path.name for path in written] == [f"{name}.{kind}" for name in NAMES for kind in ("svg", "csv")]
    again = figures.write_all(load("full", results.tracking_uri), tmp_path / "b", formats=["svg"], only=only)
    for first, second in zip(written, again, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    for path in written:
        if path.suffix == ".csv":
            assert len(pd.read_csv(path)) > 0


@pytest.mark.parametrize("make", QUICK, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", list(STYLES))
def test_nothing_leaves_the_page(results: Results, make: Any, name: str) -> None:
    with style(name) as scale:
        for drawn in make(results, scale):
            canvas = FigureCanvasAgg(drawn.figure)
            canvas.draw()
            renderer, page = canvas.get_renderer(), drawn.figure.bbox
            for part in (*drawn.figure.axes, *drawn.figure.legends):
                box = part.get_tightbbox(renderer)
                assert box.x0 >= page.x0 - 1, drawn.name
                assert box.x1 <= page.x1 + 1, drawn.name
                assert box.y0 >= page.y0 - 1, drawn.name
                assert box.y1 <= page.y1 + 1, drawn.name


def test_voronoi_figures_of_a_study(results: Results, tmp_path: Path) -> None:
    drawn = list(figures.voronoi(results))
    assert [item.name for item in drawn][:2] == ["voronoi-q2d2-hex-13.4-bit", "voronoi-q2d2-hex-16.47-bit"]
    assert len(drawn) == 6
    run = results.finished.set_index("label").loc["q2d2-hex 13.4 bit"].iloc[0]
    assert drawn[0].data["count"].sum() == sum(h.sum() for h in results.histograms(run["run_id"]))


def test_one_rate_has_no_curves(seven: Any, tmp_path: Path) -> None:
    results = load("seven", seven.uri)
    assert not has_curves(summary(results))
    assert list(figures.rate_distortion(results)) == []
    assert list(figures.spectrograms(results)) == []  # no audio was logged


def test_summary_has_one_row_a_label_and_metric(results: Results) -> None:
    frame = summary(results, ["stoi"])
    assert len(frame) == 13
    assert set(frame["series"]) == {"none", "vq", "fsq", "q2d2-hex", "q2d2-rect"}
    assert (frame["seeds"] == 3).all()
    assert (frame["low"] < frame["mean"]).all()


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("fsq 12 bit", "fsq"),
        ("fsq @ 3.0 kbit/s", "fsq"),
        ("fsq@12", "fsq"),
        ("fsq-9", "fsq-9"),
        ("12 bit", "12 bit"),
    ],
)
def test_series(label: str, name: str) -> None:
    assert series(label) == name


def test_one_colour_a_quantizer() -> None:
    assert appearance("fsq 12 bit", "fsq") == appearance("fsq")
    assert appearance("mine") == appearance("mine")
    seven = ["none", "vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic"]
    assert len({appearance(name) for name in seven}) == 7


def test_learning_bands_span_the_seeds(results: Results) -> None:
    frame = curves(results.histories)
    loss = frame[(frame["metric"] == "train/loss") & (frame["step"] == 0)]
    np.testing.assert_allclose(loss["high"] - loss["low"], 0.2)
    assert frame["metric"].iloc[0] == "validation/mel"


def test_ranks_fall_and_sum_to_the_codebook(results: Results) -> None:
    frame = ranks(results.usage)
    for _, group in frame.groupby(["label", "factor"]):
        assert group["use"].is_monotonic_decreasing
        assert group["use"].sum() == pytest.approx(len(group))


def test_sizes_leave_out_the_unquantized(results: Results) -> None:
    frame = sizes(results.finished)
    assert "none" not in set(frame["label"])
    assert frame["codebook_size"].iloc[0] == pytest.approx(2**13.4)


def test_pareto() -> None:
    cost, value = np.array([1.0, 2.0, 3.0, 2.0]), np.array([1.0, 3.0, 2.0, 3.0])
    np.testing.assert_array_equal(pareto(cost, value, True), [True, True, False, True])
    np.testing.assert_array_equal(pareto(cost, value, False), [True, False, False, False])


def test_spectrogram_of_a_sine_peaks_at_its_frequency() -> None:
    rate = 16_000
    frequencies, times, values = decibels(np.sin(2 * np.pi * 1000 * np.arange(rate) / rate), rate)
    assert values.shape == (len(frequencies), len(times))
    assert frequencies[values.mean(axis=1).argmax()] == pytest.approx(1000, abs=32)
