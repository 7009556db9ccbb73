from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis import load
from analysis.statistics.bjontegaard import Curve, bd_quality, bd_quality_interval, bd_rate, bd_rate_interval
from analysis.statistics.comparisons import bd_rates, pairwise, ranks_across, scores_of
from analysis.statistics.intervals import (
    average_ranks,
    critical_difference,
    hierarchical_bootstrap,
    holm,
    mean_interval,
    paired_difference,
    spread,
)
from analysis.statistics.leaders import leaders

SIMULATIONS = 1000
# Standard deviations of the effects of seeds, utterances and the rest: seeds that don't matter, matter as
# much as utterances, or matter alone.
NULLS = [(0.0, 1.0, 1.0), (0.2, 0.5, 0.5), (0.5, 0.5, 0.5), (0.0, 0.0, 1.0), (0.5, 0.0, 0.1)]


def simulate(
    seeds: int, utterances: int, deviations: tuple[float, float, float], effect: float = 0.0
) -> np.ndarray:
    """Heavy-tailed differences, `[simulations, seeds, utterances]`."""
    generator = np.random.default_rng([seeds, utterances, *(int(100 * d) for d in deviations)])

    def draw(deviation: float, *shape: int) -> np.ndarray:
        return deviation * generator.standard_t(5, size=shape) / np.sqrt(5 / 3)

    of_seed, of_utterance, of_rest = deviations
    return (
        effect
        + draw(of_seed, SIMULATIONS, seeds, 1)
        + draw(of_utterance, SIMULATIONS, 1, utterances)
        + draw(of_rest, SIMULATIONS, seeds, utterances)
    )


@pytest.mark.parametrize("deviations", NULLS)
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_error_rate_stays_nominal(seeds: int, deviations: tuple[float, float, float]) -> None:
    """Over 1,000 null simulations at most 5 % are rejected, within twice the standard error of the count."""
    rejected = (spread(simulate(seeds, 40, deviations)).p_value() < 0.05).mean()
    assert rejected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)


@pytest.mark.parametrize("deviations", [(0.0, 1.0, 1.0), (0.0, 0.5, 0.5)])
def test_one_seed_keeps_its_level_only_where_seeds_do_not_matter(
    deviations: tuple[float, float, float],
) -> None:
    rejected = (spread(simulate(1, 40, deviations)).p_value() < 0.05).mean()
    assert rejected <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)
    with_seeds = (spread(simulate(1, 40, (0.5, 0.5, 0.5))).p_value() < 0.05).mean()
    assert with_seeds > 0.3  # why tables mark nothing with one seed


def test_planted_effects_are_found() -> None:
    weak = (spread(simulate(3, 60, (0.02, 0.3, 0.3), effect=0.02)).p_value() < 0.05).mean()
    strong = (spread(simulate(3, 60, (0.02, 0.3, 0.3), effect=0.3)).p_value() < 0.05).mean()
    assert strong > 0.95
    assert weak < 0.3


def test_the_percentile_bootstrap_does_not_keep_its_level() -> None:
    """Why tests rest on `spread`: three seeds drawn with replacement look more alike than seeds are."""
    sample = simulate(3, 40, (0.5, 0.5, 0.5))[:400]
    low, high = np.percentile(hierarchical_bootstrap(sample, draws=500), [2.5, 97.5], axis=-1)
    assert ((low > 0) | (high < 0)).mean() > 0.12


@pytest.mark.parametrize("deviations", NULLS)
def test_intervals_cover_the_effect(deviations: tuple[float, float, float]) -> None:
    found = spread(simulate(3, 40, deviations, effect=1.0))
    covered = (np.abs(found.mean - 1.0) <= found.half_width(0.05)).mean()
    assert covered >= 0.95 - 2 * np.sqrt(0.05 * 0.95 / SIMULATIONS)


def test_p_values_agree_with_the_interval_and_with_students_test() -> None:
    sample = np.random.default_rng(3).normal(0.3, 1, (1, 30))
    found = spread(sample)
    expected = stats.ttest_1samp(sample[0], 0)
    assert float(found.p_value()) == pytest.approx(expected.pvalue, rel=1e-6)
    interval = mean_interval(sample)
    reference = expected.confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((reference.low, reference.high))
    crossed = spread(np.random.default_rng(4).normal(0.3, 1, (4, 30)))
    level = float(crossed.p_value())
    assert float(crossed.half_width(level)) == pytest.approx(abs(float(crossed.mean)), rel=1e-6)


def test_paired_difference_beats_unpaired_scores() -> None:
    generator = np.random.default_rng(5)
    difficulty = generator.normal(size=(1, 50))
    first = difficulty + 0.05 * generator.normal(size=(3, 50))
    second = first + 0.1 + 0.05 * generator.normal(size=(3, 50))
    found = paired_difference(first, second)
    assert found.p_value < 0.01
    assert found.low < 0.1 < found.high
    assert found.improvement > 0.8
    assert paired_difference(first, second, higher_is_better=False).improvement < 0.2
    assert (found.seeds, found.utterances) == (3, 50)
    second[0, :5] = np.nan
    assert paired_difference(first, second).utterances == 45


def test_identical_systems_do_not_differ() -> None:
    same = np.random.default_rng(6).normal(size=(3, 20))
    found = paired_difference(same, same)
    assert (found.mean, found.p_value, found.improvement) == (0.0, 1.0, pytest.approx(0.5, abs=0.2))


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="one shape"):
        paired_difference(np.ones((1, 3)), np.ones((1, 4)))
    with pytest.raises(ValueError, match="fewer than two"):
        paired_difference(np.full((1, 3), np.nan), np.ones((1, 3)))
    assert np.isnan(mean_interval(np.array([[1.0]])).low)


def test_holm() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert len(holm([])) == 0


def test_holm_keeps_the_family_wise_error() -> None:
    generator = np.random.default_rng(8)
    families = [holm(generator.uniform(size=15)).min() < 0.05 for _ in range(SIMULATIONS)]
    assert np.mean(families) < 0.065


def test_average_ranks_and_critical_difference() -> None:
    scores = np.array([[3.0, 2.0, 1.0], [3.0, 1.0, 1.0]])
    np.testing.assert_allclose(average_ranks(scores), [1, 2.25, 2.75])
    np.testing.assert_allclose(average_ranks(scores, higher_is_better=False), [3, 1.75, 1.25])
    # Demsar (2006), table 5: q(0.05) = 2.569 for 4 systems; his example has 14 data sets.
    assert critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 14)), rel=1e-3)


def test_bd_rate_of_shifted_curves() -> None:
    rates = np.array([1000.0, 2000.0, 4000.0, 8000.0])
    quality = np.array([1.0, 2.0, 3.0, 4.0])
    assert bd_rate(rates, quality, 0.8 * rates, quality) == pytest.approx(-20)
    assert bd_rate(rates, quality, rates, quality) == pytest.approx(0)
    assert bd_rate(rates, -quality, 1.1 * rates, -quality) == pytest.approx(
        10
    )  # a distance, smaller is better
    assert np.isnan(bd_rate(rates, quality, rates, quality + 10))
    assert np.isnan(bd_rate(rates, quality, rates, np.array([1.0, 3.0, 2.0, 4.0])))
    assert np.isnan(bd_rate(rates[:1], quality[:1], rates, quality))


def test_bd_quality_of_shifted_curves() -> None:
    rates = np.array([1000.0, 2000.0, 4000.0, 8000.0])
    quality = np.array([1.0, 3.0, 2.0, 4.0])  # it need not be monotone
    assert bd_quality(rates, quality, rates, quality + 0.3) == pytest.approx(0.3)
    # Straight in log-rate: twice the bits are one point, so 20 % fewer bits are log2(0.8) points to the left.
    straight = np.log2(rates)
    assert bd_quality(rates, straight, 0.8 * rates, straight) == pytest.approx(-np.log2(0.8))
    assert np.isnan(bd_quality(rates, quality, 10 * rates, quality))
    assert np.isnan(bd_quality(rates[:1], quality[:1], rates, quality))


def test_bd_intervals_cover_the_truth() -> None:
    rates = np.array([1000.0, 2000.0, 4000.0])
    covered = {"rate": 0, "quality": 0}
    for trial in range(50):
        generator = np.random.default_rng(trial)
        shape = (3, 3, 30)
        utterance = 0.3 * generator.normal(size=(1, 1, 30))
        base = np.array([1.0, 2.0, 3.0])[:, None, None] + utterance
        first = base + 0.1 * generator.normal(size=shape) + 0.03 * generator.normal(size=(3, 3, 1))
        second = base + 0.1 * generator.normal(size=shape) + 0.03 * generator.normal(size=(3, 3, 1))
        curves = Curve(rates, first), Curve(0.9 * rates, second)
        found = bd_rate_interval(*curves)
        covered["rate"] += found.low <= -10 <= found.high
        gain = bd_quality_interval(*curves)
        covered["quality"] += gain.low <= -np.log2(0.9) <= gain.high
    assert min(covered.values()) >= 45


def test_a_bd_rate_never_falls_below_no_bits_at_all() -> None:
    rates = np.array([1000.0, 2000.0, 4000.0])
    scores = np.arange(3.0)[:, None, None] + np.random.default_rng(0).normal(0, 0.4, (3, 2, 5))
    found = bd_rate_interval(
        Curve(rates, np.sort(scores, axis=0)), Curve(rates, np.sort(scores[:, ::-1], axis=0))
    )
    assert -100 < found.low < found.mean < found.high
    assert found.high > 200  # two trainings that say different things


def test_comparisons_of_a_study(full: Any) -> None:
    results = load("full", full.uri)
    labels = [f"{name} 18.8 bit" for name in ("vq", "fsq", "q2d2-hex", "q2d2-rect")]
    frame = pairwise(results, "pesq", labels)
    assert len(frame) == 6
    assert (frame["p_holm"] >= frame["p_value"]).all()
    assert set(frame["seeds"]) == {3}
    # The corrected interval leaves 0 out just where the corrected p-value is significant.
    significant = frame["p_holm"] <= 0.05
    assert 0 < significant.sum() < len(frame)
    assert ((frame["holm_low"] > 0) | (frame["holm_high"] < 0)).tolist() == significant.tolist()
    assert (frame["holm_high"] - frame["holm_low"] >= frame["high"] - frame["low"]).all()
    ahead = leaders(results, "pesq", labels)
    assert ahead is not None
    assert ahead.best == "q2d2-hex 18.8 bit"
    assert "vq 18.8 bit" in ahead.worse
    assert {ahead.best, *ahead.tied, *ahead.worse} == set(labels)
    gains = bd_rates(results, "pesq")
    assert list(gains["series"]) == ["fsq", "q2d2-hex", "q2d2-rect"]
    assert (gains["anchor"] == "vq").all()
    assert (gains["bd_rate"] < 0).all()
    assert (gains["bd_quality"] > 0).all()
    assert (
        (gains["quality_low"] < gains["bd_quality"]) & (gains["bd_quality"] < gains["quality_high"])
    ).all()
    # Three series are looked at, so each interval is wider than it would be alone.
    curves = [
        Curve(
            150 * np.array([13.4, 16.47, 18.8]),
            np.stack(list(scores_of(results, "pesq", labels)[1].values())),
        )
        for labels in ([f"{name} {bits} bit" for bits in (13.4, 16.47, 18.8)] for name in ("vq", "fsq"))
    ]
    alone, together = (bd_rate_interval(*curves, confidence=level) for level in (0.95, 1 - 0.05 / 3))
    assert gains.loc[0, ["bd_rate", "low", "high"]].tolist() == [together.mean, together.low, together.high]
    assert together.high - together.low > 1.2 * (alone.high - alone.low)


def test_ranks_go_over_rates_and_seeds(full: Any) -> None:
    frame = ranks_across(load("full", full.uri), "pesq").set_index("label")
    assert frame.index[0] == "q2d2-hex"
    assert frame.index[-1] == "vq"
    assert frame[["blocks", "corpora", "rates", "seeds"]].drop_duplicates().to_numpy().tolist() == [
        [9, 1, 3, 3]
    ]
    assert frame["critical"].iloc[0] == pytest.approx(critical_difference(4, 9))
    assert frame["rank"].sum() == pytest.approx(10)


def test_clips_of_one_name_in_two_corpora_are_no_pairs(store: Any) -> None:
    noisy = store.Run("noisy", tags={"corpus": "in noise", "corpus_hash": "ffff"})
    store.study("one name", [store.Run("fsq"), store.Run("vq"), noisy])
    results = load("one name", store.uri)
    assert results.utterances.groupby("utterance")["label"].nunique().eq(3).all()
    (alike,) = pairwise(results, "pesq", ["fsq", "vq"]).to_dict("records")
    assert alike["utterances"] == results.utterances["utterance"].nunique()
    assert pairwise(results, "pesq", ["fsq", "noisy"])["utterances"].eq(0).all()


def test_ranks_go_over_corpora(store: Any) -> None:
    real = {"corpus": "real", "corpus_hash": "ffff"}
    runs = []
    for seed in (0, 1):
        runs += [
            store.Run("vq", seed=seed),
            store.Run("fsq", seed=seed, effect=2.0),
            store.Run("rvq", seed=seed, bits=30.0),  # alone at its rate
            store.Run("vq, real", quantizer="vq", seed=seed, tags=real, effect=2.0),
            store.Run("fsq, real", quantizer="fsq", seed=seed, tags=real),
        ]
    store.study("corpora", runs)
    frame = ranks_across(load("corpora", store.uri), "stoi").set_index("label")
    assert set(frame.index) == {"vq", "fsq"}
    assert (frame["rank"] == 1.5).all()  # each is the best on one corpus
    assert frame[["blocks", "corpora", "rates", "seeds"]].iloc[0].tolist() == [4, 2, 1, 2]


def test_one_seed_has_no_leaders(seven: Any) -> None:
    assert leaders(load("seven", seven.uri), "stoi", ["fsq", "vq"]) is None
