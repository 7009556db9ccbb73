from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis import load
from analysis.statistics.intervals import spread
from analysis.statistics.matched_rates import RateError, coded_labels, rate_in_words
from analysis.statistics.power import (
    Components,
    PowerError,
    components,
    detectable,
    needed_utterances,
    power,
    power_frame,
    print_power,
)


def test_one_seed_is_students_test() -> None:
    parts = Components(by_seed=0.0, by_utterance=1.0, rest=0.0)
    # Textbook: half a standard deviation is found in four of five cases with 34 pairs (Cohen 1988).
    assert needed_utterances(parts, 0.5, seeds=1) == pytest.approx(34, abs=1)
    shift, edge = 0.5 * np.sqrt(34), stats.t.isf(0.025, 33)
    exact = stats.nct.sf(edge, 33, shift) + stats.nct.cdf(-edge, 33, shift)
    assert power(parts, 0.5, 1, 34) == pytest.approx(exact, abs=0.01)


@pytest.mark.parametrize("parts", [Components(0.05, 0.3, 0.3), Components(0.0, 0.2, 0.5)])
@pytest.mark.parametrize(("seeds", "utterances"), [(2, 30), (3, 50), (5, 20)])
def test_power_is_what_planted_effects_show(parts: Components, seeds: int, utterances: int) -> None:
    effect = 0.2
    generator = np.random.default_rng(1)
    scores = (
        effect
        + parts.by_seed * generator.normal(size=(2000, seeds, 1))
        + parts.by_utterance * generator.normal(size=(2000, 1, utterances))
        + parts.rest * generator.normal(size=(2000, seeds, utterances))
    )
    found = (spread(scores).p_value() < 0.05).mean()
    assert power(parts, effect, seeds, utterances) == pytest.approx(found, abs=0.04)


def test_without_an_effect_power_is_the_error_rate() -> None:
    assert power(Components(0.5, 0.0, 0.1), 0.0, 3, 40) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)


def test_seeds_alone_can_hide_a_difference() -> None:
    parts = Components(by_seed=0.2, by_utterance=0.3, rest=0.3)
    assert needed_utterances(parts, 0.1, seeds=3) == float("inf")
    many = needed_utterances(parts, 0.3, seeds=20)
    assert 2 < many < 100
    assert power(parts, 0.3, 20, int(many)) >= 0.8


def test_detectable_is_the_inverse() -> None:
    parts = Components(0.02, 0.2, 0.2)
    effect = detectable(parts, 3, 60)
    assert power(parts, effect, 3, 60) == pytest.approx(0.8, abs=0.01)


def test_components_are_found_again() -> None:
    generator = np.random.default_rng(2)
    second = (
        0.3 * generator.normal(size=(40, 1))
        + 0.5 * generator.normal(size=(1, 400))
        + 0.7 * generator.normal(size=(40, 400))
    )
    second[3, 7] = np.nan
    found = components(np.zeros_like(second), second)
    assert found.by_seed == pytest.approx(0.3, abs=0.08)
    assert found.by_utterance == pytest.approx(0.5, abs=0.04)
    assert found.rest == pytest.approx(0.7, abs=0.02)


def test_power_of_a_study(
    full: Any, seven: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = load("full", full.uri)
    labels = ["vq 18.8 bit", "fsq 18.8 bit", "q2d2-hex 18.8 bit"]
    frame = power_frame(results, "pesq", 0.2, labels, seeds=(3, 10))
    assert len(frame) == 3
    assert (frame["with_10_seeds"] <= frame["with_3_seeds"]).all()
    assert (frame["detectable"] > 0).all()
    for message, arguments in {
        "did you mean|there are: dnsmos": ("peqs", 0.1, labels),
        "must be positive": ("pesq", 0.0, labels),
        "needs at least one pair": ("pesq", 0.1, labels[:1]),
    }.items():
        with pytest.raises(PowerError, match=message):
            power_frame(results, *arguments)
    long = frame.assign(first="q2d2-rhombic-released 18.8 bit", second="q2d2-hex-released 18.8 bit")
    monkeypatch.setenv("COLUMNS", "80")
    rate = rate_in_words(results, labels)
    print_power(long.assign(with_3_seeds=np.inf), "pesq", 0.2, 0.8, rate)
    printed = capsys.readouterr().out
    assert rate == "2.82 kbit/s"
    assert printed.startswith(f"PESQ at {rate}: utterances needed")
    assert "…" not in printed
    assert all(len(line) <= 80 for line in printed.splitlines())
    assert printed.count("never") == 3 + 1  # the last line explains it
    at_last = coded_labels(results, 2820.0)
    assert {"vq 18.8 bit", "fsq 18.8 bit"} <= set(at_last)
    assert all(label.endswith(" 18.8 bit") for label in at_last)
    with pytest.raises(
        RateError, match=r"nothing finished at 9000 bit/s in study 'full'; there are 2010, 24"
    ):
        coded_labels(results, 9000.0)
    with pytest.raises(PowerError, match="add seeds"):
        power_frame(load("seven", seven.uri), "pesq", 0.1, ["vq", "fsq"])
