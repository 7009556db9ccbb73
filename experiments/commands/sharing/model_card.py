"""Write model cards: Markdown with YAML front matter, made from the results of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import yaml

from analysis.results.columns import COLUMNS, Column, quality_column
from analysis.tables.cells import number
from analysis.tables.formats import markdown_text
from experiments import metrics
from experiments.tracking.schema import Tag
from experiments.tracking.stored import StoredRun

UNKNOWN = "unknown"  # licence, as hubs name it
_RATES = ("bitrate", "bits_per_frame", "frame_rate", "streams", "coded", "parameters")


def card(run: StoredRun, study: str, config: Mapping[str, Any], *, licence: str, source: str) -> str:
    """The card of a run's model.

    config: quantizer and backbone of its file of weights. licence: of the weights; empty if the owner states
    none. source: where `codecbench pull` gets it, or the name of its folder.
    """
    values, tags = run.data.metrics, run.data.tags
    label = tags.get(Tag.LABEL) or run.info.run_name
    quantizer = str(config["quantizer"]["name"])
    corpus = tags.get(Tag.CORPUS, "")
    parts = [
        _front_matter(label, quantizer, corpus, licence, values, tags),
        f"# {_plain(label)}",
        _summary(quantizer, str(config["backbone"]["name"]), values),
        "## Use\n\n" + _use(source),
        "## Rate\n\n" + _rates(values),
        "## Scores\n\n" + _scores(corpus, values, tags),
        "## Training\n\n" + _training(run, study),
        "## Licence and sources\n\n" + _licence(run, licence),
    ]
    return "\n\n".join(parts) + "\n"


def scored(values: Mapping[str, float]) -> list[str]:
    """Metrics that a run has a mean of, in the order of all metrics."""
    names = {
        key[len("eval/") : -len("_asked")] for key in values if key[:5] == "eval/" and key[-6:] == "_asked"
    }
    known = [name for name in metrics.available() if name in names]
    every = (*known, *sorted(names - {*known}))
    return [name for name in every if math.isfinite(values.get(f"eval/{name}", math.nan))]


def _front_matter(
    label: str,
    quantizer: str,
    corpus: str,
    licence: str,
    values: Mapping[str, float],
    tags: Mapping[str, str],
) -> str:
    results = [
        {"type": name, "name": quality_column(name).header, "value": round(values[f"eval/{name}"], 6)}
        for name in scored(values)
    ]
    dataset = {"type": "speech", "name": f"{corpus} (test)", "revision": tags.get(Tag.CORPUS_HASH, "")}
    task = {"type": "audio-to-audio", "name": "Speech coding"}
    about: dict[str, Any] = {
        "license": licence or UNKNOWN,
        "library_name": "codecbench",
        "pipeline_tag": "audio-to-audio",
        "tags": ["codecbench", "speech-codec", "vector-quantization", quantizer],
    }
    if results:
        entry = {"task": task, "dataset": dataset, "metrics": results}
        about["model-index"] = [{"name": label, "results": [entry]}]
    return f"---\n{yaml.safe_dump(about, sort_keys=False, allow_unicode=True)}---"


def _summary(quantizer: str, backbone: str, values: Mapping[str, float]) -> str:
    rate = ""
    if values.get("rate/bitrate", 0) > 0:
        rate = f" at a nominal {values['rate/bitrate'] / 1000:.3f} kbit/s"
    return (
        f"A speech codec that was trained and scored by codecbench: quantizer `{_code(quantizer)}`, backbone "
        f"`{_code(backbone)}`{rate}."
    )


def _use(source: str) -> str:
    folder = source.rpartition("/")[2]
    pull = f"    codecbench pull {source}\n\n" if source.startswith("hf://") else ""
    return (
        f"{pull}```python\nimport analysis\n\n"
        f"codec = analysis.load_codec({folder!r})\n"
        "decoded = codec.reconstruct(audio)"
        "  # float32 [clips, samples] on [-1, 1], mono, codec.sample_rate Hz\n"
        "```\n\n"
        f"`codec.encode(audio)` gives the codes [clips, frames, streams] and `codec.decode(codes)` the "
        f"audio. `codecbench encode IN OUT --checkpoint {_code(folder)}` codes a file."
    )


def _rates(values: Mapping[str, float]) -> str:
    columns = [COLUMNS[key] for key in _RATES if COLUMNS[key].source in values]
    return _table(
        ("", "value"), [(_named(one), number(values[one.source] * one.scale, one.digits)) for one in columns]
    )


def _scores(corpus: str, values: Mapping[str, float], tags: Mapping[str, str]) -> str:
    names = scored(values)
    if not names:
        return "This run was not scored."
    rows = []
    for name in names:
        column, key = quality_column(name), f"eval/{name}"
        ends = [values.get(f"{key}_{end}") for end in ("low", "high")]
        interval = (
            "—"
            if None in ends
            else " to ".join(number(end, column.digits) for end in ends if end is not None)
        )
        count = f"{values.get(f'{key}_scored', 0):.0f}/{values[f'{key}_asked']:.0f}"
        rows.append((_named(column), number(values[key], column.digits), interval, count))
    speech = "synthetic speech" if tags.get(Tag.SYNTHETIC) == "true" else "recorded audio"
    content = _code(tags.get(Tag.CORPUS_HASH, "")[:12])
    intro = (
        f"Test split of the corpus {_plain(corpus)} ({speech}, content hash `{content}`), evaluation "
        f"protocol {_plain(tags.get(Tag.PROTOCOL, ''))}. The intervals (95 %) are over utterances of one "
        "training; they say nothing about another training."
    )
    return f"{intro}\n\n{_table(('metric', 'mean', '95 %', 'utterances'), rows)}"


def _training(run: StoredRun, study: str) -> str:
    params, tags = run.data.params, run.data.tags
    steps = params.get("train.steps", "")
    trained = f"Trained {_plain(steps)} steps" if steps else "Trained"
    about = [
        f"{trained} on the training split of "
        f"{_plain(params.get('data.corpus') or tags.get(Tag.CORPUS, ''))}, seed "
        f"{_plain(tags.get(Tag.SEED, ''))}, as a run of the study {_plain(study)}.",
        f"Run `{_code(tags.get(Tag.RUN_HASH, ''))}`, training `{_code(tags.get(Tag.TRAINING_HASH, ''))}`, "
        f"codecbench {_plain(tags.get(Tag.VERSION, ''))}, torch {_plain(tags.get(Tag.TORCH, ''))}.",
    ]
    stages = params.get("evaluate.stages", "")
    if stages.isdecimal():
        about.append(f"Only the first {stages} stages of its quantizer are used.")
    return " ".join(about)


def _licence(run: StoredRun, licence: str) -> str:
    params = run.data.params
    given = {key: _set(params.get(f"train.warm_start.{key}")) for key in ("weights", "checkpoint", "steps")}
    lines = [
        f"Licence of these weights: {_plain(licence)}."
        if licence
        else "The owner states no licence of these weights."
    ]
    if given["weights"]:
        lines.append(
            f"The training began from the released weights `{_code(given['weights'])}` "
            f"({_plain(params.get('weights.licence', 'licence not logged'))}, "
            f"{_plain(params.get('weights.source', 'source not logged'))}), whose licence holds for what is "
            "made of them."
        )
    elif given["checkpoint"]:
        name = PurePath(given["checkpoint"].replace("\\", "/")).name
        lines.append(
            f"The training began from the checkpoint `{_code(name)}`. codecbench does not know its source "
            "and its licence; ask the owner."
        )
    elif given["steps"]:
        lines.append(
            f"It began from a warm start of {_plain(given['steps'])} steps on the same corpus, which "
            "began from random weights."
        )
    else:
        lines.append("It began from random weights.")
    return " ".join(lines)


def _set(value: str | None) -> str:
    """A logged parameter, empty where it was null."""
    return "" if value in (None, "", "null", "None") else str(value)


def _named(column: Column) -> str:
    return _plain(column.title)


def _plain(text: str) -> str:
    """`text` with nothing that Markdown or HTML takes for itself."""
    return markdown_text(text)


def _code(text: str) -> str:
    """`text` for a code span."""
    return " ".join(text.replace("`", "'").split())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("--",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
