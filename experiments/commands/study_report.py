"""Report of a study at the end of `codecbench run`: its table and figures, in the store and in a folder."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

from analysis import load
from analysis.figures import writing
from analysis.reports.answer import answer
from analysis.results.study_metrics import logged_metrics
from analysis.results.study_results import Results
from analysis.statistics.matched_rates import main_labels
from analysis.tables import comparison, formats
from analysis.tables import console as console_tables
from experiments.commands import outputs
from experiments.commands.display.terminal import Console
from experiments.common.machine import cores
from experiments.execution.study_runner import Summary
from experiments.tracking.descriptions import metric_name, of_study
from experiments.tracking.store import Store

_FORMATS = {"md": "markdown", "csv": "csv", "tex": "latex"}  # by suffix


def write(
    summary: Summary,
    store: Store,
    folder: Path,
    *,
    question: str,
    rate_mismatch: bool,
    figures: bool,
    console: Console,
) -> list[str]:
    """Log table, figures, description and means, write them to `folder`, and print the table.

    The store comes first, and printing last: neither a folder that cannot be written nor a terminal that
    cannot print loses anything. Returns a message for each folder that could not be written.
    """
    results = load(store.study, store.uri, parent=summary.parent_id)
    table = comparison.comparison(results, allow_rate_mismatch=rate_mismatch)
    whole = comparison.comparison(results, ["all"], allow_rate_mismatch=rate_mismatch)
    problems = []
    with tempfile.TemporaryDirectory() as temporary:
        tables = Path(temporary) / "tables"
        tables.mkdir()
        for suffix, kind in _FORMATS.items():
            (tables / f"comparison.{suffix}").write_text(formats.render(whole, kind), encoding="utf-8")
        store.log_files(summary.parent_id, tables, "tables")
        text = of_study(question, answer(results, main_labels(results)), formats.render(table, "markdown"))
        store.summarise(summary.parent_id, _means(results), text)
        problems.append(outputs.save_folder(tables, folder / "tables"))
        if figures and (summary.outcomes or not (folder / "figures").exists()):
            drawn = Path(temporary) / "figures"
            with contextlib.nullcontext() if console.muted else console.status("drawing figures"):
                writing.write_all(results, drawn, formats=("png", "svg"), processes=cores())
            if drawn.exists():
                store.log_files(summary.parent_id, drawn, "figures")
                problems.append(outputs.save_folder(drawn, folder / "figures"))
    console_tables.print_table(table)
    return [problem for problem in problems if problem]


def _means(results: Results) -> dict[str, float]:
    """`summary/METRIC/LABEL`: means over seeds of what the study asks for."""
    means: dict[str, float] = {}
    for metric in logged_metrics(results):
        by_label = results.finished.groupby("label", sort=False)[f"eval/{metric}"].mean().dropna()
        for label, mean in by_label.to_dict().items():
            means[metric_name(f"summary/{metric}/{label}")] = float(mean)
    return means
