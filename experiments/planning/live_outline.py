"""Outlines from live modules: the runs that a study expands to, and the rates that its quantizers have."""

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.common.flat_keys import flatten
from experiments.planning import costs
from experiments.planning.outline import Outline, PlannedCorpus, PlannedRate, PlannedRun
from experiments.studies import reference_runs, runs
from experiments.studies.row_rates import row_rates, unmatched
from experiments.studies.study import Study, check


def needed_corpora(values: Mapping[str, Any], source: str, fewer_rows: bool) -> list[runs.NeededCorpus]:
    """The corpora of the study that `values` describe. Raises StudyError.

    fewer_rows: as of `studies.study.check`.
    """
    return runs.corpora(check(values, source, fewer_rows=fewer_rows))


def trainings(
    values: Mapping[str, Any], source: str, corpora: Sequence[PlannedCorpus], fewer_rows: bool
) -> dict[str, runs.Run]:
    """The runs of the study that `values` describe, by hash. Raises StudyError."""
    study = check(values, source, fewer_rows=fewer_rows)
    return {run.hash: run for run in runs.expand(study, _prepared(corpora))}


def outline_of(
    values: Mapping[str, Any], source: str, corpora: Sequence[PlannedCorpus], fewer_rows: bool
) -> Outline:
    """The outline of the study that `values` describe. Raises StudyError."""
    study = check(values, source, fewer_rows=fewer_rows)
    place = {(corpus.spec, corpus.sample_rate): number for number, corpus in enumerate(corpora)}
    prepared = _prepared(corpora)
    planned = []
    expanded = runs.expand(study, prepared)
    for run in expanded:
        start = run.warm_start()
        planned.append(
            PlannedRun(
                label=run.label,
                seed=run.seed,
                hash=run.hash,
                corpus=place[run.scored.spec, run.sample_rate],
                training_hash=run.training_hash,
                warm_start=start.training_hash if start else "",
                warm_start_steps=start.train.steps if start else 0,
                steps=run.train.computed_steps,
                scorings=len(run.train.decay_at) or 1,
                config=costs.relevant(flatten(run.resolved())),
            )
        )
    references = [
        PlannedRun(label=run.label, seed=None, hash=run.hash, corpus=place[run.corpus.spec, run.sample_rate])
        for run in reference_runs.expand(study, prepared)
    ]
    rates = row_rates(study)
    off = unmatched(rates)
    return Outline(
        study=study.name,
        question=study.question,
        allow_rate_mismatch=study.allow_rate_mismatch,
        corpora=tuple(corpora),
        runs=tuple(planned),
        references=tuple(references),
        rates={
            rate.label: PlannedRate(
                bits_per_frame=rate.bits_per_frame,
                bitrate=rate.bitrate,
                token_rate=rate.token_rate,
                off=100 * off[rate.label] if rate.label in off else None,
                about=rate.about,
            )
            for rate in rates
        },
        weights=tuple(dict.fromkeys(filter(None, (run.released_weights for run in expanded)))),
        search=_search_in_words(study),
    )


def _prepared(corpora: Sequence[PlannedCorpus]) -> dict[tuple[str, int], runs.CorpusIdentity]:
    several = len(corpora) > 1  # tells them apart before their contents are known
    return {
        (corpus.spec, corpus.sample_rate): runs.CorpusIdentity(
            spec=corpus.spec,
            name=corpus.spec,
            content_hash=corpus.content_hash or (f"unprepared {corpus.spec}" if several else ""),
            synthetic=False,
        )
        for corpus in corpora
    }


def _search_in_words(study: Study) -> str:
    """The trainings that `codecbench search` adds: of each family, or of each sampler and seed."""
    search = study.search
    if search is None:
        return ""
    if search.families:
        number = search.trials * len(search.families)
        what = f"{search.trials} trials for each of {len(search.families)} families"
    else:
        number = search.trials * 2 * len(search.seeds)
        what = f"{search.trials} full trainings for each of 2 samplers and {len(search.seeds)} seed(s)"
    return f"{what}, {number} trainings of {study.train.steps:,} steps in all"
