import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis import load
from analysis.figures import catalogue as figures
from analysis.figures import writing as drawing
from analysis.figures.code_use import ranks, sizes, use_histogram
from analysis.figures.differences import difference_figure
from analysis.figures.learning import curves
from analysis.figures.rate_distortion import bd_figure, has_curves, rate_distortion_figure
from analysis.figures.spectrograms import decibels
from analysis.figures.style import _KNOWN, appearance, lay_out, legend_below, looks, save, style
from analysis.figures.writing import write_all
from analysis.results.study_results import Results
from analysis.statistics.estimates import summary
from analysis.statistics.matched_rates import RateError, at_bitrate
from analysis.statistics.pareto import front

SLOW = (figures.voronoi, figures.voronoi_slices, figures.voronoi_training)
QUICK = [make for make in figures.FIGURES if make not in SLOW]
NAMES = [
    "rate-distortion",
    "bd-rates",
    "differences",
    "differences-at-2.01-kbit",
    "differences-at-2.47-kbit",
    "ranks-pesq",
    "utterances-pesq",
    "cost",
    "learning-curves",
    "voronoi-tilings",
    "utilisation",
    "code-ranks",
    "code-histograms",
    "spectrograms",
]


@pytest.fixture(scope="module")
def results(full: Any) -> Results:
    return load("full", full.uri)


def test_every_figure_is_written_with_its_data(results: Results, tmp_path: Path) -> None:
    only = [make.__name__ for make in QUICK]
    written = write_all(results, tmp_path / "a", formats=["svg"], only=only)
    assert [path.name for path in written] == [f"{name}.{kind}" for name in NAMES for kind in ("svg", "csv")]
    for path in written:
        if path.suffix == ".csv":
            assert len(pd.read_csv(path)) > 0


def test_figures_of_one_rate_say_which(results: Results) -> None:
    (cost,) = figures.cost(results, 1.0)
    assert cost.rate == "2.82 kbit/s"  # of three rates that are as common, the highest
    assert set(cost.data["label"]) == {f"{name} 18.8 bit" for name in ("vq", "fsq", "q2d2-hex", "q2d2-rect")}
    (asked,) = figures.cost(at_bitrate(results, 2470), 1.0)
    assert asked.rate == "2.47 kbit/s"
    assert {label.split(" ", 1)[1] for label in asked.data["label"]} == {"16.47 bit"}
    with pytest.raises(
        RateError, match=r"nothing finished at 5000 bit/s .* there are 2010, 2470, 28[0-9]{2} bit/s"
    ):
        at_bitrate(results, 5000)


def test_a_figure_that_fails_is_not_passed_over(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(results: Results, scale: float) -> Any:
        raise IndexError("no such panel")

    monkeypatch.setattr(drawing, "FIGURES", (broken, figures.utilisation))
    with pytest.raises(IndexError, match="no such panel"):
        write_all(results, tmp_path, formats=["svg"])


def test_letters_that_the_small_font_lacks_are_drawn_all_the_same(tmp_path: Path) -> None:
    with style("paper"), warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that no font has is a warning
        figure = Figure()
        figure.text(0.1, 0.5, "fsq — 2.1 kbit/s ± 1, Жуковский")
        (path,) = save(figure, tmp_path / "letters", ["pdf"])
    found = set(re.findall(rb"/BaseFont /[A-Z]+\+(\S+)", path.read_bytes()))
    assert found == {b"DejaVuSansLabels-Regular", b"DejaVuSans"}


def test_the_page_names_all_kinds() -> None:
    page = (Path(__file__).parents[3] / "docs" / "figures.md").read_text(encoding="utf-8")
    listed = page.split("draws these kinds alone: ")[1].split(".\n")[0]
    assert [name.replace("-", "_") for name in re.split(r",\s+", listed)] == list(drawing.KINDS)


def test_several_processes_write_the_same_bytes(results: Results, tmp_path: Path) -> None:
    only = ["voronoi_tilings", "rate_distortion", "code_ranks", "critical_differences"]
    mine = write_all(results, tmp_path / "a", formats=["svg", "pdf"], only=only)
    theirs = write_all(results, tmp_path / "b", formats=["svg", "pdf"], only=only, processes=2)
    assert [path.name for path in mine] == [path.name for path in theirs]
    for path in mine:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("make", QUICK, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["paper", "talk"])  # the smallest and the largest type
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
    names = [item.name for item in drawn]
    assert names[:4] == [
        f"voronoi-{n}" for n in ("fsq-13.4-bit", "fsq-16.47-bit", "fsq-18.8-bit", "q2d2-hex-13.4-bit")
    ]
    assert len(drawn) == 9
    drawn = [item for item in drawn if "hex" in item.name]
    run = results.finished.set_index("label").loc["q2d2-hex 13.4 bit"].iloc[0]
    assert drawn[0].data["count"].sum() == sum(h.sum() for h in results.histograms(run["run_id"]))


def test_slices_and_movements_of_a_study(results: Results) -> None:
    slices = list(figures.voronoi_slices(results))
    assert [item.name for item in slices] == [f"voronoi-slice-vq-{bits}-bit" for bits in (13.4, 16.47, 18.8)]
    assert len(slices[0].data) == 25
    moving = list(figures.voronoi_training(results))
    names = [f"{name}-18.8-bit" for name in ("fsq", "q2d2-hex", "q2d2-rect")]
    assert [item.name for item in moving] == [f"voronoi-training-{name}" for name in names]
    steps = moving[0].data[moving[0].data["pair"] == 0]
    assert list(steps["step"]) == [0, 10, 40, 90]
    np.testing.assert_allclose(steps["spread_x"] / steps["spread_x"].iloc[-1], [0.1, 0.4, 0.8, 1])


def test_tilings_stand_side_by_side(results: Results) -> None:
    (drawn,) = figures.voronoi_tilings(results)
    assert list(drawn.data.groupby("label", sort=False).size()) == [81, 77]
    assert "2.82 kbit/s" in drawn.figure.get_suptitle()


def test_animations_of_a_study(results: Results, tmp_path: Path) -> None:
    written = write_all(results, tmp_path, formats=["gif"], only=["animations"])
    assert [path.name for path in written] == [
        f"voronoi-training-{name}-18.8-bit.gif" for name in ("fsq", "q2d2-hex", "q2d2-rect")
    ]


def test_a_quantizer_looks_the_same_at_every_rate() -> None:
    for name in ("q2d2-hex-released", "my-own"):
        assert appearance(f"{name} 12 bit") == appearance(f"{name} 20 bit", name) == appearance(name)
    assert len({appearance(name) for name in _KNOWN}) == len(_KNOWN)


def test_histogram_of_use() -> None:
    usage = pd.DataFrame({"label": "a", "seed": 0, "factor": 0, "code": range(4), "count": [0, 1, 1, 6]})
    frame = use_histogram(usage).set_index("use")
    assert frame["codes"][0.0] == 1
    assert frame["codes"][0.5] == 2
    assert frame["codes"][2.0] == 1
    assert frame["share"].sum() == 1


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


def test_references_have_a_figure_of_their_own(store: Any) -> None:
    outside = {"reference": "true", "quantizer": "reference:opus"}
    runs = [store.Run(f"fsq {bits} bit", quantizer="fsq", bits=float(bits)) for bits in (12, 20)]
    runs += [store.Run(f"opus {rate}", bits=float(rate), tags=outside) for rate in (40, 80)]
    store.study("beside opus", runs)
    drawn = {one.name: one for one in figures.rate_distortion(load("beside opus", store.uri))}
    assert set(drawn) == {"rate-distortion", "rate-distortion-references"}
    assert set(drawn["rate-distortion"].data["series"]) == {"fsq"}
    assert set(drawn["rate-distortion-references"].data["series"]) == {"fsq", "opus"}


def test_quality_against_the_coded_rate(store: Any) -> None:
    """A run of before, which has no coded rate, is left out of this figure, and no figure is drawn for it
    alone; an unquantized ceiling stays."""
    rates = {"fsq": 0.9, "q2d2-hex": 0.8}
    runs = [
        store.Run(
            f"{name} {bits} bit",
            quantizer=name,
            bits=float(bits),
            metrics={"rate/coded": share * 150 * bits},
        )
        for name, share in rates.items()
        for bits in (12, 20)
    ]
    before = [store.Run(f"vq {bits} bit", quantizer="vq", bits=float(bits)) for bits in (12, 20)]
    ceiling = store.Run("none", quantizer="none", bits=0.0)
    store.study("coded", [*runs, *before, ceiling])
    drawn = {one.name: one for one in figures.rate_distortion(load("coded", store.uri))}
    frame = drawn["rate-distortion-coded"].data
    assert set(frame["series"]) == {"fsq", "q2d2-hex", "none"}
    shown = frame[frame["series"] == "fsq"].set_index("label")["bitrate"]
    assert list(shown["fsq 12 bit"]) == pytest.approx([0.9 * 150 * 12] * len(shown["fsq 12 bit"]))
    assert drawn["rate-distortion-coded"].figure.axes[0].get_xlabel() == "coded rate (kbit/s)"
    assert set(drawn["rate-distortion"].data["series"]) == {"fsq", "q2d2-hex", "vq", "none"}
    store.study("not coded", before)
    assert "rate-distortion-coded" not in {
        one.name for one in figures.rate_distortion(load("not coded", store.uri))
    }


def test_points_are_drawn_at_their_bitrates(store: Any) -> None:
    names = ("vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic", "lfq", "simvq")
    outside = {"reference": "true", "quantizer": "reference:opus"}
    runs = [
        store.Run(f"{name} {bits} bit", quantizer=name, bits=float(bits))
        for name in names
        for bits in (8, 20)
    ]
    runs += [store.Run(f"opus {rate}", bits=float(rate), tags=outside) for rate in (40, 160)]
    store.study("many series", runs)
    for one in figures.rate_distortion(load("many series", store.uri)):
        if one.name.startswith("rate-distortion"):
            truth = one.data["bitrate"].unique() / 1e3
            drawn = np.concatenate([np.asarray(bar[0].get_xdata()) for bar in one.figure.axes[0].containers])
            assert len(drawn) >= 16
            assert np.isin(drawn, truth).all()


@pytest.mark.parametrize(("ceiling", "drawn"), [(1.5, True), (3.93, False), (0.2, False)])
def test_a_ceiling_far_off_does_not_press_the_curves_together(
    results: Results, ceiling: float, drawn: bool
) -> None:
    frame = summary(results, ["pesq"])
    coded = frame["bitrate"] > 0
    frame.loc[coded, ["mean", "low", "high"]] = [[1.2, 1.0, 1.4]]
    frame.loc[~coded, "mean"] = ceiling
    with style("paper"):
        figure = rate_distortion_figure(frame)
    (axes,) = figure.axes
    assert axes.get_ylim()[0] < min(1.0, ceiling if drawn else 1.0)
    assert axes.get_ylim()[1] < 1.7
    assert [text.get_text() for text in axes.texts] == (
        [] if drawn else [f"unquantized {ceiling:.2f} {'↑' if ceiling > 1 else '↓'}"]
    )


def test_one_colour_a_quantizer() -> None:
    assert appearance("fsq 12 bit", "fsq") == appearance("fsq")
    assert appearance("mine") == appearance("mine")
    seven = ["none", "vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic"]
    assert len({appearance(name) for name in seven}) == 7


def test_arms_of_a_quantizer_are_told_apart() -> None:
    arms = (" steps=0", " steps=300 freeze=encoder,decoder", " steps=300 freeze=none")
    look = looks({f"{name}{arm}": name for name in ("rvq", "fsq") for arm in arms} | {"vq": "vq"})
    assert len(set(map(str, (one.points for one in look.values())))) == 7
    assert [look[f"rvq{arm}"].points | {"color": ""} for arm in arms] == [
        {"color": "", "marker": "D"},
        {"color": "", "marker": "D", "markerfacecolor": "white"},
        {"color": "", "marker": "D", "fillstyle": "left", "markerfacecoloralt": "white"},
    ]
    for arm in arms:
        assert look[f"rvq{arm}"].line["linestyle"] == look[f"fsq{arm}"].line["linestyle"]
    assert look["vq"].points == {"color": "#E69F00", "marker": "s"}  # alone, as ever
    rates = looks({f"fsq {bits} bit": "fsq" for bits in (12, 16, 20)} | {"rvq 12 bit": "rvq"})
    assert [one.arm for one in rates.values()] == [0, 1, 2, 0]
    named = looks(dict.fromkeys(("of mine", "fsq"), "fsq"))
    assert [one.arm for one in named.values()] == [0, 1]


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
    both = np.stack((cost, value), axis=1)
    np.testing.assert_array_equal(front(both, (False, True)), [True, True, False, True])
    np.testing.assert_array_equal(front(both, (False, False)), [True, False, False, False])
    np.testing.assert_array_equal(front(both), front(both, (False, False)))


def test_spectrogram_of_a_sine_peaks_at_its_frequency() -> None:
    rate = 16_000
    frequencies, times, values = decibels(np.sin(2 * np.pi * 1000 * np.arange(rate) / rate), rate)
    assert values.shape == (len(frequencies), len(times))
    assert frequencies[values.mean(axis=1).argmax()] == pytest.approx(1000, abs=32)


@pytest.mark.parametrize("words", [1, 12])
def test_a_legend_stays_on_its_figure(words: int) -> None:
    figure = Figure(figsize=(6, 3), layout="constrained")
    lines = figure.subplots().plot(np.eye(6))
    legend_below(figure, {f"{number} {'word ' * words}": line for number, line in enumerate(lines)}, 4)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (drawn,) = figure.legends
    edges = drawn.get_window_extent(canvas.get_renderer())
    assert edges.x0 >= 0
    assert edges.x1 <= figure.bbox.width
    assert drawn._ncols == (4 if words == 1 else 1)


@pytest.mark.parametrize("name", ["paper", "talk", "web"])
@pytest.mark.parametrize("dpi", [72, 120, 200, 300])
def test_no_label_is_clipped_at_any_resolution(name: str, dpi: int) -> None:
    labels = [f"q2d2-{grid}-released 20 bit" for grid in ("hex", "rect", "rhombic")]
    nothing = float("nan")
    rows = [
        (label, "vq", metric, *values, 3, 40)
        for metric in ("pesq", "stoi")
        for label, values in [
            *((one, (0.1, -0.2, 0.3, 0.5)) for one in labels),
            ("vq", (0.0, *[nothing] * 3)),
        ]
    ]
    columns = ["label", "best", "metric", "difference", "low", "high", "p_holm", "seeds", "utterances"]
    with style(name) as scale:
        figure = difference_figure(pd.DataFrame(rows, columns=columns), scale=scale)
        lay_out(figure)
        figure.set_dpi(dpi)
        renderer = FigureCanvasAgg(figure).get_renderer()
        left, right = (panel.get_tightbbox(renderer) for panel in figure.axes)
    assert left.x0 >= 0
    assert left.x1 < right.x0
    assert right.x1 <= figure.bbox.width


@pytest.mark.parametrize("widest", [540.0, 60.0, 4.0, 0.5])
def test_a_bd_rate_can_be_read_from_its_axis(widest: float) -> None:
    rows = [("fsq", "vq", "pesq", widest, widest / 2, 1.1 * widest), ("rvq", "vq", "pesq", 0.0, -1.0, 1.0)]
    frame = pd.DataFrame(rows, columns=["series", "anchor", "metric", "bd_rate", "low", "high"])
    with style("paper") as scale:
        figure = bd_figure(frame, scale=scale)
    (panel,) = figure.axes
    ticks = {
        tick.get_text(): place
        for tick, place in zip(panel.get_xticklabels(), panel.get_xticks(), strict=True)
    }
    assert len(ticks) >= 3
    for text, place in ticks.items():
        assert 2**place == pytest.approx(1 + float(text) / 100, abs=0.005)
    points = {round(float(line.get_xdata()[0]), 6) for line in panel.lines if len(line.get_xdata()) == 1}
    assert points >= {round(float(np.log2(1 + widest / 100)), 6), 0.0}


def test_a_training_of_a_few_steps_has_no_learning_curves(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each metric was logged once, so that none changes."""
    once = results.histories.drop_duplicates(["label", "metric"]).assign(value=1.0)
    assert list(figures.learning(results))
    monkeypatch.setattr(Results, "histories", once)
    monkeypatch.delitem(results.__dict__, "histories", raising=False)
    assert list(figures.learning(results)) == []


def test_learning_curves_leave_out_what_never_changes() -> None:
    steps = pd.DataFrame({"step": [0, 10, 20], "label": "fsq", "seed": 0})
    logged = {
        "validation/collapsed": [0.0, 0.0, 0.0],
        "train/loss": [3.0, 2.0, 1.0],
        "validation/loss": [3.0, 2.5, 2.0],
    }
    histories = pd.concat([steps.assign(metric=name, value=values) for name, values in logged.items()])
    assert list(dict.fromkeys(curves(histories)["metric"])) == ["validation/loss", "train/loss"]


def test_quality_is_drawn_against_channels_where_there_are_three_numbers_of_them(store: Any) -> None:
    counts = {"fsq 20 bit": 4, "q2d2-hex 20 bit": 6, "q2d2-rect 20 bit": 8}
    made = [
        store.Run(
            label,
            quantizer=label.split()[0],
            seed=seed,
            bits=20.0,
            params={"quantizer.options.levels": str([3] * (count + 2 * seed))},
        )
        for label, count in counts.items()
        for seed in (0, 1)
    ]
    store.study(
        "channels",
        [*made, store.Run("vq 20 bit", quantizer="vq", bits=20.0), store.Run("fsq 9 bit", bits=9.0)],
    )
    (drawn,) = figures.channels(load("channels", store.uri))
    found = drawn.data.drop_duplicates("label").set_index("label")["channels"]
    assert found.to_dict() == {label: count + 1.0 for label, count in counts.items()}  # the mean of seeds
    panel = drawn.figure.axes[0]
    (curve,) = [line for line in panel.lines if len(line.get_xdata()) == 3]
    assert list(curve.get_xdata()) == [5.0, 7.0, 9.0]
    assert [text.get_text() for text in panel.texts] == [f"{drawn.data['rate'][0] / 1e3:.2f} kbit/s"]
    store.study("two", made[:4])
    assert not list(figures.channels(load("two", store.uri)))


def test_quality_is_drawn_against_the_noise_of_features_of_a_frozen_encoder(store: Any) -> None:
    ratios = {"fsq 20 bit": 3.0, "q2d2-hex 20 bit": 3.5, "vq 20 bit": 5.0}

    def study(name: str, **params: str) -> Results:
        store.study(
            name,
            [
                store.Run(
                    label,
                    quantizer=label.split()[0],
                    seed=seed,
                    bits=20.0,
                    params=params,
                    metrics={"usage/signal_to_noise": ratio + seed},
                )
                for label, ratio in ratios.items()
                for seed in (0, 1)
            ],
        )
        return load(name, store.uri)

    frozen = study("frozen", **{"train.freeze": '["encoder", "decoder"]', "train.freeze_steps": "null"})
    (drawn,) = figures.signal_to_noise(frozen)
    found = drawn.data.drop_duplicates("label").set_index("label")["signal_to_noise"]
    assert found.to_dict() == {label: ratio + 0.5 for label, ratio in ratios.items()}
    (curve,) = [line for line in drawn.figure.axes[0].lines if len(line.get_xdata()) == 3]
    assert list(curve.get_xdata()) == [3.5, 4.0, 5.5]
    trained = {"train.freeze": '["decoder"]', "train.freeze_steps": "null"}
    for other in (trained, {"train.freeze": '["encoder"]', "train.freeze_steps": "50"}):
        assert not list(figures.signal_to_noise(study("trained", **other)))
