"""Power: the number of seeds and utterances that would show a difference of a given size.

Differences between two systems are `mean + seed effect + utterance effect + rest`, as in `significance`.
Their components of variance decide the distribution of everything that the test computes, so that power comes
from drawing the test's own mean squares (normal effects: scaled chi-squares) and counting rejections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from analysis.results.columns import quality_column
from analysis.results.study_results import records
from analysis.statistics.comparisons import LEVEL, scores_of
from analysis.statistics.intervals import Spread, complete, mean_squares

if TYPE_CHECKING:
    from rich.table import Table

    from analysis.results.study_results import Results

DRAWS = 20_000
MOST_UTTERANCES = 1_000_000
SEEDS = (2, 3, 5, 10)


class PowerError(ValueError):
    """Nothing can be said about a study's power; the message says why and what to do."""


@dataclass(frozen=True)
class Components:
    """Standard deviations of a paired difference between seeds, between utterances, and of the rest."""

    by_seed: float
    by_utterance: float
    rest: float


def components(first: np.ndarray, second: np.ndarray) -> Components:
    """Of two systems' scores, both `[seeds, utterances]`; estimates of variance below zero count as 0.

    With one seed, variance between seeds can't be seen: `by_seed` is NaN and `rest` is in `by_utterance`.

    Raises:
        ValueError: fewer than two utterances were scored everywhere.
    """
    difference = complete(second - first)
    seeds, utterances = difference.shape
    if utterances < 2:
        raise ValueError("fewer than two utterances were scored for both systems")
    if seeds == 1:
        return Components(float("nan"), float(difference[0].std(ddof=1)), 0.0)
    of_seeds, of_utterances, of_rest = mean_squares(difference)
    return Components(
        float(np.sqrt(max(of_seeds - of_rest, 0) / utterances)),
        float(np.sqrt(max(of_utterances - of_rest, 0) / seeds)),
        float(np.sqrt(of_rest)),
    )


def power(parts: Components, effect: float, seeds: int, utterances: int, *, level: float = 0.05) -> float:
    """Probability that the test of `significance` shows a difference of `effect` at `level`.

    The draws are the same for the same `seeds` and `utterances`.
    """
    normal, *squares = _draws(seeds, utterances)
    of_seed = np.nan_to_num(parts.by_seed) ** 2
    of_utterance, of_rest = parts.by_utterance**2, parts.rest**2

    def square(expected: float, place: int, freedom: int) -> np.ndarray:
        return expected * squares[place] / freedom

    cells = seeds * utterances
    variance = of_seed / seeds + of_utterance / utterances + of_rest / cells
    mean = effect + np.sqrt(variance) * normal
    if seeds == 1:
        error = square(of_utterance + of_rest, 0, utterances - 1) / utterances
        drawn = Spread(mean, np.zeros(DRAWS), error, seeds, utterances)
    else:
        seeds_square = square(utterances * of_seed + of_rest, 0, seeds - 1)
        utterances_square = square(seeds * of_utterance + of_rest, 1, utterances - 1)
        rest = square(of_rest, 2, (seeds - 1) * (utterances - 1))
        by_utterance = np.maximum(utterances_square - rest, 0) / cells
        drawn = Spread(mean, seeds_square / cells, by_utterance, seeds, utterances)
    return float((np.abs(mean) > drawn.half_width(level)).mean())


@lru_cache(maxsize=256)  # of 0.6 MB; a search for each of many pairs asks for the same ones
def _draws(seeds: int, utterances: int) -> tuple[np.ndarray, ...]:
    """Standard normal draws, then chi-square draws of each mean square of the analysis of variance."""
    generator = np.random.default_rng([seeds, utterances])
    normal = generator.standard_normal(DRAWS)
    freedoms = (seeds - 1, utterances - 1, (seeds - 1) * (utterances - 1)) if seeds > 1 else (utterances - 1,)
    return normal, *(generator.chisquare(freedom, DRAWS) for freedom in freedoms)


def needed_utterances(
    parts: Components, effect: float, seeds: int, *, wanted: float = 0.8, level: float = 0.05
) -> float:
    """Fewest utterances with which `seeds` trainings show a difference of `effect` with probability `wanted`.

    Infinite where the variance between seeds alone hides it.
    """
    low, high = 1, 2
    while power(parts, effect, seeds, high, level=level) < wanted:
        if high > MOST_UTTERANCES:
            return float("inf")
        low, high = high, 2 * high
    while high - low > max(1, high // 100):  # finer than the draws can tell
        middle = (low + high) // 2
        if power(parts, effect, seeds, middle, level=level) < wanted:
            low = middle
        else:
            high = middle
    return float(high)


def detectable(
    parts: Components, seeds: int, utterances: int, *, wanted: float = 0.8, level: float = 0.05
) -> float:
    """Smallest difference that so many seeds and utterances show with probability `wanted`."""
    scale = float(np.sqrt(np.nansum([parts.by_seed**2, parts.by_utterance**2, parts.rest**2])))
    if scale == 0:
        return 0.0
    high = scale
    while power(parts, high, seeds, utterances, level=level) < wanted:
        high *= 2
    low = 0.0
    for _ in range(20):
        middle = (low + high) / 2
        if power(parts, middle, seeds, utterances, level=level) < wanted:
            low = middle
        else:
            high = middle
    return high


def power_frame(
    results: Results,
    metric: str,
    effect: float,
    labels: Sequence[str],
    *,
    seeds: Sequence[int] = SEEDS,
    wanted: float = 0.8,
) -> pd.DataFrame:
    """Estimate the power of the comparison of each pair of `labels`, one row per pair.

    Columns: first, second, sd_seed, sd_utterance, sd_rest (in the unit of the metric), seeds, utterances (of
    the study), detectable (the difference that these detect), then `with_<n>_seeds`: the number of utterances
    that detects `effect` with n seeds. The level is 5 % divided by the number of pairs, as the correction of
    Holm requires for the first pair.

    Raises:
        PowerError: fewer than two labels, an unknown metric, one seed, or an effect that is not positive.
    """
    if not effect > 0:
        raise PowerError(f"the effect must be positive, a difference in the metric's unit; got {effect:g}")
    if len(labels) < 2:
        raise PowerError("fewer than two quantizers finished at one bitrate; power needs at least one pair")
    known = sorted(set(results.utterances["metric"]))
    if metric not in known:
        raise PowerError(f"no scores by {metric!r} in study {results.study!r}; there are: {', '.join(known)}")
    common, scores = scores_of(results, metric, labels)
    if len(common) < 2:
        raise PowerError(
            f"study {results.study!r} has {len(common)} seed(s) that all its quantizers finished, and the "
            "variance between trainings needs two: add seeds to the study and run it again"
        )
    pairs = list(combinations(labels, 2))
    level = LEVEL / len(pairs)
    rows = []
    for first, second in pairs:
        try:
            parts = components(scores[first], scores[second])
        except ValueError:  # nothing that both have scored
            continue
        utterances = complete(scores[second] - scores[first]).shape[1]
        least = detectable(parts, len(common), utterances, wanted=wanted, level=level)
        needed = [needed_utterances(parts, effect, count, wanted=wanted, level=level) for count in seeds]
        spread = (parts.by_seed, parts.by_utterance, parts.rest)
        rows.append((first, second, *spread, len(common), utterances, least, *needed))
    names = ["first", "second", "sd_seed", "sd_utterance", "sd_rest", "seeds", "utterances", "detectable"]
    return pd.DataFrame(rows, columns=[*names, *(f"with_{count}_seeds" for count in seeds)])


def _columns(cells: Mapping[str, Sequence[str]]) -> Table:
    """A table of the columns `cells`; names of pairs are folded where the terminal is too narrow."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in cells:
        pair = name == "pair"
        table.add_column(name, justify="left" if pair else "right", no_wrap=not pair, overflow="fold")
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    return table


def print_power(frame: pd.DataFrame, metric: str, effect: float, wanted: float, rate: str = "") -> None:
    """Print `power_frame` to the terminal, in two tables if it is too narrow for one.

    rate: the rate of the compared systems, in words.
    """
    from rich.console import Console
    from rich.measure import Measurement

    column = quality_column(metric)
    pairs = f"{len(frame)} pairs, Holm" if len(frame) > 1 else "one pair"
    title = (
        f"{column.header}{f' at {rate}' if rate else ''}: utterances needed to show a difference of "
        f"{effect:g} with probability {wanted:g} (5 %, {pairs})"
    )
    counts = [name for name in frame.columns if name.startswith("with_")]
    cells: dict[str, list[str]] = {"pair": [f"{row['second']} - {row['first']}" for row in records(frame)]}
    for name, source in (("sd seeds", "sd_seed"), ("sd utt.", "sd_utterance"), ("sd rest", "sd_rest")):
        cells[name] = [f"{value:.{column.digits + 1}f}" for value in frame[source]]
    cells["shown now"] = [f"{value:.{column.digits}f}" for value in frame["detectable"]]
    needed = {f"{name.split('_')[1]} seeds": name for name in counts}
    for heading, source in needed.items():
        cells[heading] = ["never" if np.isinf(value) else f"{value:,.0f}" for value in frame[source]]
    console = Console(highlight=False)
    console.print(title, markup=False)
    whole = _columns(cells)
    if Measurement.get(console, console.options.update(max_width=1000), whole).maximum <= console.width:
        console.print(whole)
    else:
        console.print(_columns({name: values for name, values in cells.items() if name not in needed}))
        console.print(_columns({"pair": cells["pair"], **{name: cells[name] for name in needed}}))
    own = frame.iloc[0]
    console.print(
        f"sd: standard deviations of paired differences, estimated from {own['seeds']} seeds and up to "
        f"{frame['utterances'].max()} utterances. shown now: the difference that these show with the same "
        "probability. never: the variance between so few seeds alone hides it."
    )
