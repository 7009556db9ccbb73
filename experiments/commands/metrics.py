"""Commands about metrics: the list of them, the check of their values, and the list of reference codecs."""

from __future__ import annotations

import typer

from experiments.commands.display.terminal import PlainTable, output
from experiments.commands.options import Metrics, OutputFormat, names_of


def list_metrics(format: OutputFormat = "console") -> None:
    """List all metrics: use, cost, and the command that installs a missing one."""
    from experiments.commands.documents import audio, document
    from experiments.metrics import registry

    if format == "json":
        document.emit(audio.metrics_document())
        return
    texts = ("backend", "licence", "good for")
    table = PlainTable(
        "metric", "unit", "better", "rate", "cost", *texts, texts=("unit", "better", "cost", *texts)
    )
    missing = {}
    for name in registry.available():
        metric = registry.get(name)
        if metric.missing():
            missing[name] = metric.install
        table.add(
            name + ("*" if metric.core else ""),
            metric.unit or "-",
            {True: "higher", False: "lower", None: "-"}[metric.higher_is_better],
            str(metric.sample_rate or "own"),
            metric.cost,
            metric.version(),
            metric.licence,
            metric.summary if metric.deterministic else f"{metric.summary} (not deterministic)",
        )
    console = output()
    console.table(table)
    console.say("* in the core set. Cost: CPU seconds per second of audio, on one thread. Rate in Hz.")
    for name, install in missing.items():
        console.say(f"{name} is not installed: pip install {install}")


def check_metrics(metrics: Metrics = None) -> None:
    """Compare every metric on built-in signals with its reference values."""
    from experiments.metrics import golden, registry

    names = registry.available() if metrics is None else names_of(metrics, "--metrics")
    for name in names:
        registry.get(name)  # a wrong name ends here, before the others are computed
    console = output()
    table = PlainTable(
        *("metric", "signals", "obtained", "expected", "tolerance", "backend", "result"),
        texts=("signals", "backend", "result"),
        keys=2,
    )
    failed, skipped = 0, {}
    for result in golden.check(names):
        if result.skipped:
            skipped[result.metric] = result.reason
            continue
        failed += not result.ok
        table.add(
            result.metric,
            result.pair,
            "" if result.obtained is None else f"{result.obtained:.5f}",
            f"{result.expected:.5f}",
            f"{result.tolerance:g}",
            result.backend,
            ("ok", "green") if result.ok else (f"differs {result.reason}".strip(), "red"),
        )
    console.table(table)
    for reason in dict.fromkeys(skipped.values()):
        console.say(f"not checked: {reason}")
    if failed:
        console.say(
            f"{failed} values differ from the references: a backend has another version, or is broken"
        )
        raise typer.Exit(1)


def list_references(format: OutputFormat = "console") -> None:
    """List the reference codecs and controls that can be scored beside quantizers."""
    from codec import references
    from experiments.commands.documents import audio, document

    if format == "json":
        classes = [references.get(name) for name in references.available()]
        listed = [
            audio.ListedReference(name=name, option=cls.main_option or "", summary=cls.summary)
            for name, cls in zip(references.available(), classes, strict=True)
        ]
        document.emit(audio.ListReferencesDocument(references=listed))
        return
    table = PlainTable(
        "name", "option of NAME:VALUE", "description", texts=("option of NAME:VALUE", "description")
    )
    for name in references.available():
        cls = references.get(name)
        table.add(name, cls.main_option or "-", cls.summary)
    output().table(table)
