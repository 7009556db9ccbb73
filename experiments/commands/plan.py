"""`codecbench plan`: what a study will do and cost, before anything is trained."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from experiments.commands.options import override_list

if TYPE_CHECKING:
    from rich.console import Console

    from experiments.planning.outline import Outline, PlannedRun
    from experiments.planning.plan import Plan


def plan(
    study: Annotated[str, typer.Argument(help="a shipped study (codecbench list studies) or a YAML file")],
    data: Annotated[str | None, typer.Option(help="another corpus, as for codecbench run")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="change a value of the study, such as train.steps=200")
    ] = None,
    directory: Annotated[Path, typer.Option("--runs", help="folder for weights and states")] = Path("runs"),
    workers: Annotated[int | None, typer.Option(min=1, help="processes; default one a core")] = None,
    tracking_uri: Annotated[
        str | None, typer.Option(help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db")
    ] = None,
    format: Annotated[Literal["console", "json"], typer.Option(help="of the output")] = "console",
    measure: Annotated[
        bool, typer.Option("--measure", help="time a few steps of each quantizer first (prepares the corpus)")
    ] = False,
) -> None:
    """Show a study's runs, rates, what is finished, and the hours that are left. Trains nothing."""
    from rich.console import Console

    from experiments.common.machine import default_workers, listed_gpus
    from experiments.planning import plan as plans
    from experiments.tracking import store as tracking

    overrides = override_list(set_, data)
    if measure:
        _measure(study, overrides, Console(stderr=True, highlight=False))
    made = plans.make(study, overrides, tracking.store_uri(tracking_uri), directory)
    place = {"workers": workers or default_workers(), "gpus": listed_gpus()}
    if format == "json":
        typer.echo(json.dumps(as_values(made, place), indent=1))
    else:
        _print(made, place, Console(highlight=False))


def as_values(made: Plan, place: dict[str, int]) -> dict[str, Any]:
    """The plan as JSON values."""
    seconds = made.estimate.seconds
    return {
        **asdict(made.outline),
        "store": made.store,
        "states": {
            key: {"status": status, "reason": reason} for key, (status, reason) in made.states.items()
        },
        "left": [run.hash for run in made.left(made.outline.runs)],
        "where": place,
        "estimate": {
            **asdict(made.estimate),
            "hours": None if seconds is None else seconds / 3600 / place["workers"],
        },
    }


def _print(made: Plan, place: dict[str, int], console: Console) -> None:
    outline = made.outline
    console.print(f"[bold]{outline.study}[/]: {outline.question}", soft_wrap=True)
    for corpus in outline.corpora:
        known = corpus.summary or f"{corpus.spec} at {corpus.sample_rate} Hz, not prepared yet"
        console.print(f"corpus: {known}", soft_wrap=True)
    console.print(_table(made))
    for line in _rate_lines(outline):
        console.print(line, soft_wrap=True)
    for line in _work_lines(made, place):
        console.print(line, soft_wrap=True)


def _table(made: Plan) -> Any:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None)
    table.add_column("row")
    for name in ("bits/frame", "kbit/s", "tokens/s"):
        table.add_column(name, justify="right")
    table.add_column("seeds")
    table.add_column("state")
    rows: dict[str, list[PlannedRun]] = {}
    for run in (*made.outline.runs, *made.outline.references):
        rows.setdefault(run.label, []).append(run)
    for label, runs in rows.items():
        rate = made.outline.rates.get(label)
        cells = ["—"] * 3
        if rate:
            off = "" if rate.off is None else f" ({rate.off:+.1f} %)"
            bits, kilo = f"{rate.bits_per_frame:.2f}", f"{rate.bitrate / 1000:.3f}{off}"
            cells = [bits, kilo, f"{rate.token_rate:.0f}"]
        seeds = ", ".join(str(run.seed) for run in runs if run.seed is not None) or "—"
        states = Counter(made.state(run) for run in runs)
        state = ", ".join(f"{number} {name}" if len(runs) > 1 else name for name, number in states.items())
        table.add_row(escape(label), *cells, seeds, state)
    return table


def _rate_lines(outline: Outline) -> list[str]:
    """What does not stand at the study's rate, if anything."""
    off = {label: rate for label, rate in outline.rates.items() if rate.off is not None}
    if not off:
        return []
    beside = sorted(rate.bits_per_frame for rate in outline.rates.values() if rate.off is None)
    bits = sorted(rate.bits_per_frame for rate in off.values())
    what = (
        f"{_range(bits)} bits a frame beside {_range(beside)}" if beside else f"{_range(bits)} bits a frame"
    )
    then = (
        "the study allows it (allow_rate_mismatch): they are compared all the same, and captions say so"
        if outline.allow_rate_mismatch
        else "they are set apart in tables and statistics"
    )
    return [f"[yellow]rate mismatch[/]: {', '.join(off)} spend {what}, more than 2 % off; {then}"]


def _range(values: list[float]) -> str:
    return f"{values[0]:.2f}" if values[-1] - values[0] < 0.005 else f"{values[0]:.2f} to {values[-1]:.2f}"


def _work_lines(made: Plan, place: dict[str, int]) -> list[str]:
    runs, references = made.left(made.outline.runs), made.left(made.outline.references)
    broken = [run for run in made.outline.runs if made.state(run) in ("failed", "diverged")]
    finished = len(made.outline.runs) - len(runs) - len(broken)
    workers, gpus = place["workers"], place["gpus"]
    device = f"{gpus} GPU{'s' if gpus > 1 else ''}" if gpus else "CPU, one thread each"
    lines = [
        f"runs: {len(made.outline.runs)}, of which {finished} finished"
        + (f", {len(broken)} failed or diverged (--retry does them again)" if broken else "")
        + (f"; store {made.store}" if made.states else "")
    ]
    if not runs and not references:
        return [*lines, "nothing is left to do"]
    stages = [
        f"{made.estimate.warm_starts} warm starts" if made.estimate.warm_starts else "",
        f"{len(runs)} runs" if runs else "",
        f"{len(references)} references" if references else "",
    ]
    processes = f"{workers} worker process{'es' if workers > 1 else ''}"
    lines.append(f"left: {', then '.join(filter(None, stages))}, in {processes} on this machine ({device})")
    return [*lines, _hours(made, workers)]


def _hours(made: Plan, workers: int) -> str:
    estimate = made.estimate
    if estimate.seconds is not None:
        parts = [("training", estimate.training or 0.0), ("evaluation", estimate.evaluation or 0.0)]
        each = ", ".join(f"{name} {_time(seconds)}" for name, seconds in parts)
        return (
            f"time: about {_time(estimate.seconds / workers)} with {workers} at once, as runs took before "
            f"({each} of one worker; references not counted)"
        )
    known = f"training about {_time(estimate.training / workers)}; " if estimate.training else ""
    remedy = (
        "codecbench plan --measure times a few steps" if estimate.training is None else "the first run does"
    )
    return f"time: {known}not known, since {'; '.join(estimate.missing)}: {remedy}"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _measure(study: str, overrides: list[str], console: Console) -> None:
    """Time a few steps of each quantizer, at the first place where it stands."""
    from experiments.commands.progress import progress_bar
    from experiments.execution import study_runner as runner
    from experiments.planning import costs as step_costs
    from experiments.studies import runs
    from experiments.studies import study as studies

    asked = studies.load(study, overrides)
    with progress_bar() as preparing:
        corpora = {each: runner.identify(*each, preparing) for each in runs.corpora(asked)}
    first = {
        (run.quantizer, run.backbone, json.dumps(run.train.model_dump(mode="json"))): run
        for run in reversed(runs.expand(asked, corpora))
    }
    step_costs.measure(
        list(reversed(first.values())), lambda label: console.print(f"timing {label}", highlight=False)
    )
