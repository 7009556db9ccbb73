"""The report of a study: one static folder that opens from disk, with tables, figures and listening."""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from analysis.answer import answer
from analysis.columns import DEFAULT_COLUMNS
from analysis.figures import FIGURES, Drawn, coded_labels, file_name, main_labels
from analysis.renderers import FORMATS, SUFFIXES, render
from analysis.results import Results
from analysis.style import save, style
from analysis.tables import Table, comparison

# Quality first: on a narrow screen the rest is a scroll away.
_FIRST = ("bits_per_frame", "bitrate", "pesq", "stoi", "mel_distance", "dnsmos_ovrl", "scored")
COLUMNS = (*_FIRST, *(name for name in DEFAULT_COLUMNS if name not in _FIRST))
MOST_CLIPS = 6  # utterances to listen to
_CAPTIONS = {
    "voronoi": "Voronoi cells of each pair of channels, their use, and the latents of the test set.",
    "rate-distortion": "Quality against bitrate with 95 % intervals.",
    "bd-rates": "Mean difference in bitrate at equal quality (Bjontegaard).",
    "robustness": "Quality under disturbance: codes replaced, lost or shuffled, recoding, noise, gain.",
    "learning-curves": "Training and validation: mean of seeds, band from the least to the greatest.",
    "code-ranks": "Use of each code by its rank; the dashed line is uniform use.",
    "utilisation": "Use of the codebooks against their size.",
    "cost": "Quality against cost; the line joins the systems that no other beats in both.",
    "utterances": "The two best quantizers, utterance by utterance.",
    "differences": "Paired differences to the best quantizer.",
    "ranks": "Average ranks over utterances.",
    "spectrograms": "One utterance through every system.",
}


def write_report(results: Results, output: Path) -> Path:
    """Write `output/index.html` with `tables/`, `figures/` and `audio/` beside it; returns the page.

    The same results give the same bytes. What an earlier report left in these places is replaced.
    """
    for name in ("tables", "figures", "audio"):
        shutil.rmtree(output / name, ignore_errors=True)
        (output / name).mkdir(parents=True)
    table = comparison(results, COLUMNS)
    _write_tables(table, output / "tables")
    labels = coded_labels(results)
    clips = _copy_audio(results, main_labels(results), output / "audio")
    page = Template((files("analysis") / "report.html").read_text(encoding="utf-8"))
    text = page.substitute(
        study=html.escape(results.study),
        question=html.escape(results.settings.get("question") or "Which quantizer makes the better codec?"),
        answer=" ".join(html.escape(sentence) for sentence in answer(results, labels)),
        table=render(table, "html"),
        downloads=_downloads(),
        figures="\n".join(_figure(results, drawn) for drawn in _draw(results, output / "figures")),
        clips=_json(clips),
        listening="" if clips else "hidden",
        provenance=_provenance(results),
    )
    path = output / "index.html"
    path.write_text(text, encoding="utf-8")
    return path


def _write_tables(table: Table, folder: Path) -> None:
    for kind in FORMATS:
        path = folder / f"comparison.{SUFFIXES[kind]}"
        path.write_text(render(table, kind), encoding="utf-8")


def _downloads() -> str:
    names = [f"comparison.{SUFFIXES[kind]}" for kind in FORMATS]
    return " · ".join(f'<a href="tables/{name}">{name}</a>' for name in names)


def _draw(results: Results, folder: Path) -> list[Drawn]:
    drawn: list[Drawn] = []
    with style("web") as scale:
        for make in FIGURES:
            for item in make(results, scale):
                save(item.figure, folder / item.name, ["png"], item.data)
                drawn.append(item)
    return drawn


def _figure(results: Results, drawn: Drawn) -> str:
    name = html.escape(drawn.name, quote=True)
    key = next((key for key in _CAPTIONS if drawn.name.startswith(key)), "")
    caption = html.escape(_CAPTIONS.get(key, ""))
    return (
        f'<figure><img src="figures/{name}.png" alt="{caption}" loading="lazy">'
        f'<figcaption>{caption} <a href="figures/{name}.csv">CSV</a></figcaption></figure>'
    )


def _copy_audio(results: Results, labels: Sequence[str], folder: Path) -> list[dict[str, Any]]:
    """Copy the first finished seed's pairs: `[{"name": utterance, "systems": [{"label", "source"}]}]`."""
    logged: dict[str, Mapping[str, Mapping[str, Path]]] = {}
    for label in labels:
        runs = results.finished[results.finished["label"] == label]
        logged[label] = results.audio(runs.sort_values("seed", kind="stable")["run_id"].iloc[0])
    common = sorted(set.intersection(*(set(pairs) for pairs in logged.values()))) if logged else []
    clips = []
    for utterance in common[:MOST_CLIPS]:
        place = folder / file_name(utterance)
        place.mkdir()
        sources = {"reference": logged[labels[0]][utterance]["reference"]}
        sources |= {label: logged[label][utterance]["reconstruction"] for label in labels}
        systems: list[dict[str, str]] = []
        for label, source in sources.items():
            target = place / f"{len(systems):02d}-{file_name(label)}{source.suffix}"
            shutil.copyfile(source, target)
            systems.append({"label": label, "source": f"audio/{place.name}/{target.name}"})
        clips.append({"name": utterance, "systems": systems})
    return clips


def _json(value: object) -> str:
    """JSON that can't end the script element it stands in."""
    return json.dumps(value).replace("<", "\\u003c").replace("\u2028", "\\u2028")


def _provenance(results: Results) -> str:
    names = ["label", "seed", "status", "run_hash", "protocol", "git_commit", "git_dirty", "run_id"]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = [
        "<tr>" + "".join(f"<td>{html.escape(str(value))}</td>" for value in row) + "</tr>"
        for row in results.runs[names].itertuples(index=False)
    ]
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
