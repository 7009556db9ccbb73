"""`codecbench plan`: runs, rates and costs of a study, before anything is trained."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands import progress
from experiments.commands.display.terminal import Console, PlainTable, messages, output
from experiments.commands.display.time_left import words
from experiments.commands.options import (
    Changes,
    Corpus,
    OutputFormat,
    Quiet,
    RunsFolder,
    StudyFile,
    TrackingUri,
    Workers,
    changes_of,
)
from experiments.common.machine import default_workers, listed_gpus
from experiments.common.plain_words import counted
from experiments.tracking.store import store_uri

if TYPE_CHECKING:
    from experiments.planning.outline import Outline, PlannedRun
    from experiments.planning.plan import Plan


def plan(
    study_file: StudyFile,
    data: Corpus = None,
    changes: Changes = None,
    directory: RunsFolder = Path("runs"),
    workers: Workers = None,
    tracking_uri: TrackingUri = None,
    format: OutputFormat = "console",
    measure: Annotated[
        bool,
        typer.Option("--measure", help="train a few steps of each row to time it (prepares the corpus)"),
    ] = False,
    device_speed: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="estimate for another device: a100, h100 or l40s (stated speeds), or the TFLOP/s that "
            "trainings reach on it",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Show the runs of a study, their rates and states, and the time that is left. Trains nothing."""
    from experiments.planning import device_speeds
    from experiments.planning import plan as plans

    speed = None if device_speed is None else device_speeds.parse(device_speed)
    if speed is not None and measure:
        raise typer.BadParameter("measures this device; leave --device-speed out", param_hint="--measure")
    overrides = changes_of(changes, data)
    uri = store_uri(tracking_uri)  # before a corpus is prepared
    if measure:
        _measure(study_file, overrides, messages(quiet))
    if speed is not None:
        messages(quiet).note("counting the operations of a step")
    planned = plans.make(study_file, overrides, uri, directory, speed)
    gpus = listed_gpus() if speed is None else 0
    machine = {"workers": workers or gpus or (default_workers() if speed is None else 1), "gpus": gpus}
    if format == "json":
        from experiments.commands.documents import document, studies

        document.emit(studies.plan_document(planned, machine))
    else:
        _print(planned, machine, output(), speed.device if speed is not None else "")


def _print(plan: Plan, machine: dict[str, int], console: Console, elsewhere: str) -> None:
    outline = plan.outline
    console.say((outline.study, "bold"), f": {outline.question}" if outline.question else "")
    for corpus in outline.corpora:
        use = "scored on" if corpus.only_scored else "corpus"
        unprepared = f"{corpus.spec} at {corpus.sample_rate} Hz, not prepared yet"
        console.say(f"{use}: {corpus.summary or unprepared}")
    console.table(_table(plan))
    if mismatch := _rate_mismatch(outline):
        console.say(("rate mismatch", "yellow"), f": {mismatch}")
    for text in plan.missing_weights.values():
        console.say(("weights missing", "yellow"), f": {text}")
    for line in _work_lines(plan, machine, elsewhere):
        console.say(line)


def _table(plan: Plan) -> PlainTable:
    table = PlainTable("row", "bits/frame", "kbit/s", "tokens/s", "seeds", "state", texts=("seeds", "state"))
    rows: dict[str, list[PlannedRun]] = {}
    for run in (*plan.outline.runs, *plan.outline.references):
        rows.setdefault(run.label, []).append(run)
    for label, runs in rows.items():
        rate = plan.outline.rates.get(label)
        cells = ["—"] * 3
        if rate:
            off = "" if rate.off is None else f" ({rate.off:+.1f} %)"
            about = "about " if rate.about else ""
            bits = f"{about}{rate.bits_per_frame:.2f}"
            kilo = f"{about}{rate.bitrate / 1000:.3f}{off}"
            cells = [bits, kilo, f"{rate.token_rate:.0f}"]
        seeds = ", ".join(str(run.seed) for run in runs if run.seed is not None) or "—"
        states = Counter(plan.state(run) for run in runs)
        state = ", ".join(f"{number} {name}" if len(runs) > 1 else name for name, number in states.items())
        table.add(label, *cells, seeds, state)
    return table


def _rate_mismatch(outline: Outline) -> str:
    """The rows that are not at the rate of the study, and the consequence; empty if all are."""
    off = {label: rate for label, rate in outline.rates.items() if rate.off is not None}
    if not off:
        return ""
    matched = sorted(rate.bits_per_frame for rate in outline.rates.values() if rate.off is None)
    bits = _range(sorted(rate.bits_per_frame for rate in off.values()))
    spent = f"{bits} bits per frame" + (f", the others {_range(matched)}" if matched else "")
    consequence = (
        "the study compares them all the same (allow_rate_mismatch), and captions say so"
        if outline.allow_rate_mismatch
        else "tables and statistics show them separately"
    )
    return f"{', '.join(off)} have {spent}: more than 2 % difference; {consequence}"


def _range(values: list[float]) -> str:
    return f"{values[0]:.2f}" if values[-1] - values[0] < 0.005 else f"{values[0]:.2f} to {values[-1]:.2f}"


def _work_lines(plan: Plan, machine: dict[str, int], elsewhere: str) -> list[str]:
    """elsewhere: the device that the hours are for, where it is not of this machine."""
    runs, references = plan.left(plan.outline.runs), plan.left(plan.outline.references)
    broken = [run for run in plan.outline.runs if plan.state(run) in ("failed", "diverged")]
    finished = len(plan.outline.runs) - len(runs) - len(broken)
    workers, gpus = machine["workers"], machine["gpus"]
    device = counted(gpus, "GPU") if gpus else "CPU, one thread each"
    lines = [
        f"runs: {_counted(plan, plan.outline.runs)}, of which {finished} finished"
        + (f", {len(broken)} failed or diverged (--retry does them again)" if broken else "")
        + (f"; store {plan.store}" if plan.states else "")
    ]
    lines += [
        f"{counted(number, 'run')} of {plan.outline.study} finished on {_other_corpus(plan, corpus)}"
        for corpus, number in plan.on_other_corpora.items()
    ]
    if plan.outline.search:
        lines.append(f"not counted here: codecbench search also makes {plan.outline.search}")
    if not runs and not references:
        return [*lines, "nothing is left to run"]
    stages = [
        counted(plan.estimate.warm_starts, "warm start") if plan.estimate.warm_starts else "",
        _counted(plan, runs, "run") if runs else "",
        counted(len(references), "reference") if references else "",
    ]
    processes = f"{workers} worker process{'es' if workers > 1 else ''}"
    place = (
        f"on {elsewhere}" + (" each" if workers > 1 else "") if elsewhere else f"on this machine ({device})"
    )
    lines.append(f"left: {', then '.join(filter(None, stages))}, in {processes} {place}")
    return [*lines, _hours(plan, workers)]


def _other_corpus(plan: Plan, corpus: str) -> str:
    """What to do about finished runs on a corpus that is none of the plan's, or that may be."""
    kind, _, name = corpus.partition(":")
    unprepared = [one.spec for one in plan.outline.corpora if not one.content_hash]
    # Stores keep the last part of a path alone, so that only the content can tell.
    if any(spec.startswith(f"{kind}:") and PurePath(spec).name == PurePath(name).name for spec in unprepared):
        return f"{corpus}; whether that is this corpus shows once this one is prepared"
    return f"another corpus: add --data {corpus}"


def _counted(plan: Plan, runs: Sequence[PlannedRun], what: str = "") -> str:
    """The number of runs, and that of their trainings where several runs share one."""
    trainings = plan.trainings(runs)
    shared = f" from {counted(trainings, 'training')}" if trainings < len(runs) else ""
    return (counted(len(runs), what) if what else f"{len(runs)}") + shared


def _hours(plan: Plan, workers: int) -> str:
    estimate = plan.estimate
    processes = f"{counted(workers, 'worker')}"
    if estimate.seconds is not None:
        parts = [("training", estimate.training or 0.0), ("evaluation", estimate.evaluation or 0.0)]
        each = ", ".join(f"{name} {words(seconds)}" for name, seconds in parts)
        return (
            f"time: about {words(estimate.seconds / workers)} with {processes}, from {estimate.source} "
            f"({each} of one worker; without references)"
        )
    known = ""
    if estimate.training:
        hours = words(estimate.training / workers)
        known = f"training about {hours} with {processes}, from {estimate.source}; "
    remedy = (
        "codecbench plan --measure times a few steps"
        if estimate.training is None
        else "the first run measures it"
    )
    what = "evaluation not known" if known else "not known"
    return f"time: {known}{what} ({'; '.join(estimate.missing)}); {remedy}"


def _measure(study_file: str, overrides: list[str], console: Console) -> None:
    """Time a few steps of each quantizer, at the first place where it stands."""
    from experiments.execution import study_runner
    from experiments.planning import timing
    from experiments.studies import runs, study

    loaded = study.load(study_file, overrides)
    with progress.progress_bar(console) as preparing:
        corpora = study_runner.identify_all(loaded, preparing)
    first = {
        (run.quantizer, run.backbone, json.dumps(run.train.model_dump(mode="json"))): run
        for run in reversed(runs.expand(loaded, corpora))
    }
    timing.measure(list(reversed(first.values())), lambda label: console.note(f"timing {label}"))
