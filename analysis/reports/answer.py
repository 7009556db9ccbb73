"""The answer of a study in sentences, from its statistics."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.results.columns import quality_column
from analysis.results.placing import placing_rates
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results
from analysis.statistics.best import best_of
from analysis.statistics.budgets import by_budget, order
from analysis.statistics.comparisons import bd_rates, ranks_across
from analysis.statistics.estimates import estimate
from analysis.statistics.leaders import leaders
from analysis.tables.cells import number
from experiments.common.matched_rates import RATE_TOLERANCE


def answer(results: Results, labels: Sequence[str]) -> list[str]:
    """Sentences on `labels`, of one bitrate unless the study allows more: who leads, and is it real?"""
    finished = results.finished
    if len(labels) < 2:
        return ["Fewer than two quantizers have finished at one bitrate, so there is nothing to compare yet."]
    mine = finished[finished["label"].isin(list(labels))]
    seeds = int(mine.groupby("label").size().min())
    rates = placing_rates(mine) / 1e3
    low, high = float(rates.min()), float(rates.max())
    rate = f"{rates.mean():.2f}" if high / low - 1 <= 2 * RATE_TOLERANCE else f"{low:.2f} to {high:.2f}"
    first = mine.iloc[0]
    speech = "synthetic speech" if first["synthetic"] else "recorded audio"
    opening = f"At {rate} kbit/s on {first['corpus']} ({speech})"
    sentences = []
    for metric in logged_metrics(results):
        column = quality_column(metric)
        means = {
            label: estimate(results, mine[mine["label"] == label], f"eval/{metric}").mean for label in labels
        }
        best = best_of(means, column.higher_is_better)
        if best is None:  # nothing was scored, or nobody says what is better
            continue
        ahead = leaders(results, metric, labels)
        best = ahead.best if ahead else best
        value = f"{column.header} {number(means[best], column.digits)}"
        if ahead is None:
            sentences.append(f"{best} has the best mean {value}.")
        elif ahead.tied:
            tied = ", ".join(label for label in labels if label in ahead.tied)
            sentences.append(f"{best} has the best {value}; no significant difference was shown to {tied}.")
        else:
            sentences.append(f"{best} has the best {value}, significantly ahead of all others.")
    if seeds < 2:
        sentences.append(
            "Each system was trained once, so it is not known whether another training would give the same "
            "order."
        )
    if sentences:
        sentences[0] = f"{opening}, {sentences[0]}"
    return sentences + _over_budgets(results, labels) + _across_rates(results)


def _over_budgets(results: Results, labels: Sequence[str]) -> list[str]:
    """Since which budget the order by each metric has stood, where trainings have several."""
    sentences = []
    for metric in logged_metrics(results):
        column = quality_column(metric)
        found = order(by_budget(results, metric, labels), column.higher_is_better)
        if found is None:
            continue
        first, last = found.budgets[0], found.budgets[-1]
        if found.moves:
            sentences.append(
                f"By {column.header} the order of the {len(found.labels)} systems is not stable: at {last:,} "
                f"steps it differs from that at {found.budgets[-2]:,} steps."
            )
        else:
            whole = f", the first of the budgets up to {last:,}" if found.since == first else f" of {last:,}"
            sentences.append(
                f"By {column.header} the order of the {len(found.labels)} systems has been the same since "
                f"{found.since:,} steps{whole}."
            )
    return sentences


def _across_rates(results: Results) -> list[str]:
    """By the first metric, over all corpora, rates and seeds: average ranks, and bits saved."""
    sentences = []
    for metric in logged_metrics(results)[:1]:
        header = quality_column(metric).header
        ranks = ranks_across(results, metric)
        if len(ranks) and ranks["rates"].iloc[0] * ranks["corpora"].iloc[0] > 1:
            best, critical = ranks.iloc[0], float(ranks["critical"].iloc[0])
            near = ranks["label"][1:][ranks["rank"][1:] - best["rank"] < critical]
            but = f"; {', '.join(near)} differ from it by less" if len(near) else ""
            places = [
                f"{best[name]} {name if best[name] > 1 else name[:-1]}"
                for name in ("corpora", "rates", "seeds")
                if name != "corpora" or best[name] > 1
            ]
            sentences.append(
                f"Over {', '.join(places)}, {best['label']} has the best average rank by {header}, "
                f"{best['rank']:.2f} (critical difference {critical:.2f}{but})."
            )
        gains = bd_rates(results, metric)
        for gain in gains[gains["bd_rate"].notna()].sort_values("bd_rate").to_dict("records")[:1]:
            ends = f" [{gain['low']:+.0f}, {gain['high']:+.0f}]" if gain["low"] == gain["low"] else ""
            doubt = "" if gain["low"] > 0 or gain["high"] < 0 else ", not significant"
            than = "fewer" if gain["bd_rate"] < 0 else "more"
            sentences.append(
                f"At equal {header}, {gain['series']} needs {abs(gain['bd_rate']):.0f} % {than} bits than "
                f"{gain['anchor']} (BD-rate {gain['bd_rate']:+.0f} %{ends}{doubt})."
            )
    return sentences
