"""The report of a study: one static folder that opens from disk, with tables, figures and listening."""

from __future__ import annotations

import html
import json
from collections.abc import Collection
from pathlib import Path
from string import Template
from typing import Any

from analysis.figures.captions import caption
from analysis.figures.writing import Target, Written, begun
from analysis.reports.answer import answer
from analysis.reports.listening import write_clips
from analysis.reports.output_folder import prepare_output
from analysis.reports.page import beside, policy
from analysis.results.columns import logged
from analysis.results.study_metrics import all_keys
from analysis.results.study_results import Results
from analysis.statistics.contrasts import has_contrasts
from analysis.statistics.matched_rates import coded_labels, main_labels
from analysis.tables.comparison import comparison
from analysis.tables.contrasts import contrast_table
from analysis.tables.formats import FORMATS, SUFFIXES, frame_web, render
from analysis.tables.table import Table

COLOURS = 128  # of a figure


def write_report(
    results: Results, output: Path, *, only: Collection[str] | None = None, processes: int = 1
) -> Path:
    """Write `output/index.html` with `tables/`, `figures/`, `audio/` and `spectrograms/` beside it.

    Returns the page. It runs its own script only and asks nothing of any server.

    only, processes: as of `figures.writing.draw`. The same results give the same bytes. What an
    earlier report left in these places is replaced. Raises OutputError where somebody else's files lie there.
    """
    prepare_output(output, "report", ("tables", "figures", "audio", "spectrograms"))
    pictures = Target(output / "figures", "web", ("png",), colours=COLOURS)
    with begun(results, pictures, only=only, processes=processes) as finish:
        table = comparison(results, logged(all_keys(results), results.runs.columns))
        _write_tables(table, output / "tables", table.name)
        differences = contrast_table([results]) if has_contrasts(results) else None
        if differences is not None:
            _write_tables(differences, output / "tables", differences.name)
        labels = coded_labels(results)
        references = list(dict.fromkeys(results.finished_references.get("label", [])))
        clips = write_clips(results, [*main_labels(results), *references], labels, output)
        sentences = answer(results, labels)
        figures = finish()
    script, sheet = beside("sorting.js") + beside("report.js"), beside("report.css")
    text = Template(beside("report.html")).substitute(
        policy=policy(script, sheet),
        script=script,
        style=sheet,
        study=html.escape(results.study),
        question=html.escape(results.settings.get("question") or "Which quantizer makes the better codec?"),
        answer=_answer(sentences),
        table=render(table, "html"),
        downloads=_downloads(table.name),
        contrasts="" if differences is None else _contrasts(differences),
        figures="\n".join(_figure(figure) for figure in figures),
        clips=_json(clips),
        listening="" if clips else "hidden",
        heard=_heard(clips),
        nyquist=f"{clips[0]['sample_rate'] / 2000:g}" if clips else "",
        provenance=_provenance(results),
    )
    path = output / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def _answer(sentences: list[str]) -> str:
    first, *rest = [html.escape(sentence) for sentence in sentences] or [""]
    more = "".join(f"<li>{sentence}</li>" for sentence in rest)
    return f"<p>{first}</p>" + (f"<ul>{more}</ul>" if more else "")


def _heard(clips: list[dict[str, Any]]) -> str:
    count = max((len(clip["systems"]) for clip in clips), default=1) - 1
    return f"The reference and {count} systems, each by its first seed."


def _write_tables(table: Table, folder: Path, name: str) -> None:
    for kind in FORMATS:
        path = folder / f"{name}.{SUFFIXES[kind]}"
        path.write_text(render(table, kind), encoding="utf-8")


def _contrasts(table: Table) -> str:
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="contrasts">'
    downloads = f"<p>{_downloads(table.name)}</p>"
    return f"<h2>Contrasts</h2>\n{scroll}{render(table, 'html')}</div>\n{downloads}"


def _downloads(table: str) -> str:
    names = [f"{table}.{SUFFIXES[kind]}" for kind in FORMATS]
    return " · ".join(f'<a href="tables/{name}">{name}</a>' for name in names)


def _figure(figure: Written) -> str:
    name = html.escape(figure.name, quote=True)
    text = html.escape(caption(figure.name, figure.label or figure.rate), quote=True)
    return (
        f'<figure><a href="figures/{name}.png"><img src="figures/{name}.png" alt="{text}" loading="lazy"></a>'
        f'<figcaption>{text} <a href="figures/{name}.csv">CSV</a></figcaption></figure>'
    )


def _json(value: object) -> str:
    """JSON that can't end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _provenance(results: Results) -> str:
    names = ["label", "seed", "status", "run_hash", "protocol", "git_commit", "git_dirty", "run_id"]
    return frame_web(results.runs[names])
