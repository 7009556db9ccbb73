"""The paper kit: every table and figure under a stable name, a document with all of them, and provenance."""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections.abc import Collection, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.figures.captions import caption
from analysis.figures.style import DOUBLE_COLUMN
from analysis.figures.writing import Target, begun
from analysis.reports.answer import answer
from analysis.reports.output_folder import prepare_output
from analysis.results.columns import logged, quality_column
from analysis.results.spreadsheet import plain_frame
from analysis.results.study_metrics import logged_metrics, quality_keys
from analysis.results.study_results import RUN_COLUMNS, Results, records
from analysis.statistics.comparisons import bd_rates, pairwise
from analysis.statistics.contrasts import contrasts
from analysis.statistics.matched_rates import coded_labels
from analysis.tables.comparison import comparison
from analysis.tables.contrasts import contrast_table
from analysis.tables.formats import comma_separated
from analysis.tables.latex import frame_latex, latex, tex

RATES = ("bits_per_frame", "token_rate", "bitrate")
USE_AND_COST = (
    *("bits_per_frame", "bitrate", "entropy_bitrate", "used_fraction", "perplexity", "entropy_fraction"),
    *("parameters", "quantizer_parameters", "real_time_factor"),
)
HEIGHT = 8.6  # inches that a figure may be high on the page
PACKAGES = ("codecbench", "matplotlib", "mlflow", "numpy", "pandas", "scipy")
_LABELS = ("label", "series", "system", "first", "second", "best", "of", "less")  # columns that name systems

_DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[a4paper,textwidth=7in,textheight=9.6in]{geometry}
\usepackage{booktabs,graphicx,longtable}
\ifdefined\pdfinfoomitdate\pdfinfoomitdate=1 \pdftrailerid{}\pdfsuppressptexinfo=15 \fi
\extrafloats{200}
\title{%(title)s}
\author{}\date{}
\begin{document}
\maketitle
\noindent %(question)s

\medskip\noindent %(answer)s

\medskip\noindent {\small The runs behind each file are listed in \texttt{provenance.json}.}
%(tables)s
\clearpage
%(figures)s
\end{document}
"""
_FIGURE = r"""\begin{figure}[tp]
\centering
\includegraphics[scale=%(scale)s]{figures/%(name)s.pdf}
\caption{%(caption)s}
\label{fig:%(name)s}
\end{figure}"""


def write_paper(
    results: Results, output: Path, *, only: Collection[str] | None = None, processes: int = 1
) -> Path:
    """Write `output/main.tex` with `tables/`, `figures/` and `provenance.json`; returns the document.

    only, processes: as of `figures.writing.draw`. The same results give the same bytes. What an earlier
    kit left in these places is replaced. Raises OutputError where somebody else's files lie there.
    """
    prepare_output(output, "paper", ("tables", "figures"))
    used: dict[str, list[str]] = {}
    tables, figures = [], []
    target = Target(output / "figures", "paper", ("pdf",))
    with begun(results, target, only=only, processes=processes) as finish:
        for name, text, data, runs in _tables(results):
            tables.append(rf"\input{{tables/{name}.tex}}")
            for suffix, content in (("tex", text), ("csv", data)):
                (output / "tables" / f"{name}.{suffix}").write_text(content, encoding="utf-8")
                used[f"tables/{name}.{suffix}"] = runs
        sentences = answer(results, coded_labels(results))
        drawn = finish()
    for figure in drawn:
        behind = runs_behind(figure.label, figure.data, results)
        used |= {f"figures/{path.name}": behind for path in figure.paths}
        width, height = figure.size
        fit = f"{min(1.0, DOUBLE_COLUMN / width, HEIGHT / height):.3f}"
        text = tex(caption(figure.name, figure.label or figure.rate))
        figures.append(_FIGURE % {"name": figure.name, "scale": fit, "caption": text})
    path = output / "main.tex"
    path.write_text(
        _DOCUMENT
        % {
            "title": tex(results.study),
            "question": tex(results.settings.get("question", "")),
            "answer": tex(" ".join(sentences)),
            "tables": "\n".join(tables),
            "figures": "\n".join(figures),
        },
        encoding="utf-8",
    )
    used["main.tex"] = _hashes(results.runs)
    provenance = _provenance(results, sentences, output, used)
    text = json.dumps(provenance, indent=1, ensure_ascii=False) + "\n"
    (output / "provenance.json").write_text(text, encoding="utf-8")
    return path


def runs_behind(label: str, data: pd.DataFrame, results: Results) -> list[str]:
    """Hashes of the runs that a figure shows: of the one system `label`, if there is one, else of the systems
    that its data name, else all that finished."""
    if label:
        named = {label}
    else:
        named = {str(value) for column in _LABELS if column in data for value in data[column].dropna()}
    hashes = _hashes(results.finished, named) + _hashes(results.finished_references, named)
    return hashes or _hashes(results.finished)


def _hashes(runs: pd.DataFrame, labels: Collection[str] | None = None) -> list[str]:
    if runs.empty:
        return []
    if labels is not None:
        runs = runs[runs["label"].isin(labels) | runs["series"].isin(labels)]
    return [str(value) for value in runs["run_hash"]]


def _tables(results: Results) -> Iterator[tuple[str, str, str, list[str]]]:
    """Name, LaTeX, CSV and run hashes of each table."""
    from dataclasses import replace

    everything = _hashes(results.runs) + _hashes(results.references)
    for name, title, columns in (
        ("quality", "rates and quality", (*RATES, *quality_keys(results))),
        ("use-and-cost", "use of the codebooks and cost", USE_AND_COST),
    ):
        table = comparison(results, logged(columns, results.runs.columns))
        table = replace(table, name=name, title=f"{results.study}: {title}")
        yield name, latex(table), comma_separated(table), everything
    if len(frame := contrasts(results)):
        table = contrast_table([results])
        used = _hashes(results.finished, {*frame["of"], *frame["less"]})
        yield table.name, latex(table), comma_separated(table), used
    labels, metrics = coded_labels(results), logged_metrics(results)
    mine = _hashes(results.finished, set(labels))
    if len(labels) > 1:
        pairs = pd.concat([pairwise(results, metric, labels) for metric in metrics], ignore_index=True)
        if len(pairs):
            text = frame_latex(_shown_pairs(pairs), "differences", _ABOUT_PAIRS)
            yield "differences", text, plain_frame(pairs).to_csv(index=False, lineterminator="\n"), mine
    gains = [bd_rates(results, metric) for metric in metrics]
    if any(len(gain) for gain in gains):
        frame = pd.concat([gain for gain in gains if len(gain)], ignore_index=True)
        text = frame_latex(_shown_gains(frame), "bd", _ABOUT_GAINS)
        named = {*frame["series"], *frame["anchor"]}
        yield (
            "bd",
            text,
            plain_frame(frame).to_csv(index=False, lineterminator="\n"),
            _hashes(results.finished, named),
        )


_ABOUT_PAIRS = (
    "Paired differences at one bitrate, second less first, on the same seeds and utterances, with 95 % "
    "intervals. p: corrected for all pairs (Holm). Improvement: probability that a training of the second "
    "beats one of the first on an utterance. With one seed all of this covers utterances only."
)
_ABOUT_GAINS = (
    "Bjontegaard differences to the anchor: bitrate at equal quality (negative is fewer bits) and quality at "
    "equal bitrate (in the metric's unit), with 95 % intervals over seeds and utterances."
)


def _shown_pairs(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in records(frame):
        column = quality_column(row["metric"])
        rows.append(
            {
                "metric": column.name,
                "first": row["first"],
                "second": row["second"],
                "difference": _signed(row["difference"], row["low"], row["high"], column.digits),
                "p": "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}",
                "improvement": f"{row['improvement']:.2f}",
            }
        )
    return pd.DataFrame(rows)


def _shown_gains(frame: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for row in records(frame):
        column = quality_column(row["metric"])
        quality = (row["bd_quality"], row["quality_low"], row["quality_high"])
        rows.append(
            {
                "metric": column.name,
                "system": row["series"],
                "anchor": row["anchor"],
                "BD-rate (%)": _signed(row["bd_rate"], row["low"], row["high"], 1),
                "BD-quality": _signed(*quality, column.digits),
            }
        )
    return pd.DataFrame(rows)


def _signed(value: float, low: float, high: float, digits: int) -> str:
    """`+0.12 [-0.01, +0.25]`; a dash where nothing could be measured."""

    def told(one: float) -> str:
        text = f"{one:+.{digits}f}"
        return (text if float(text) else text[1:]).replace("-", "−")  # nought has no sign

    if value != value:
        return "—"
    return told(value) + (f" [{told(low)}, {told(high)}]" if low == low else "")


def _provenance(
    results: Results, sentences: list[str], output: Path, used: dict[str, list[str]]
) -> dict[str, Any]:
    names = [name for name in RUN_COLUMNS if name in results.runs]
    runs = [results.runs[names]]
    if len(results.references):
        runs.append(results.references[names])
    return {
        "study": results.study,
        "question": results.settings.get("question", ""),
        "answer": sentences,
        "commands": _commands(results),
        "settings": dict(sorted(results.settings.items())),
        "made_with": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        "runs": [_plain(run) for frame in runs for run in records(frame)],
        "files": {
            name: {"sha256": hashlib.sha256((output / name).read_bytes()).hexdigest(), "runs": hashes}
            for name, hashes in sorted(used.items())
        },
    }


def _commands(results: Results) -> list[str]:
    """The commands that make these results: the corpus is named, since it need not be the study's own."""
    study = shlex.quote(results.study)
    spec, scored = (results.settings.get(f"data.{key}", "null") for key in ("corpus", "test"))
    swept = '"data' in results.settings.get("axes", "")  # then the study file names them
    data = f" --data {shlex.quote(spec)}" if spec != "null" and not swept else ""
    if scored != "null" and not swept:
        data += f" --set {shlex.quote(f'data.test={scored}')}"
    return [f"codecbench run {study}{data}", f"codecbench paper {study}"]


def _plain(run: dict[str, Any]) -> dict[str, Any]:
    """Of numpy's types, which JSON doesn't know, and without what is empty."""
    values = {name: value.item() if hasattr(value, "item") else value for name, value in run.items()}
    return {name: value for name, value in values.items() if value not in ("", None)}
