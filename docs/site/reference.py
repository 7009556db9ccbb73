"""Write the pages of the reference from the code: commands, keys of a study, quantizers, metrics, API."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

import analysis
import quantizers
from codec import backbones
from experiments import cli, metrics
from experiments.studies import sections
from experiments.studies.described import key_table
from experiments.studies.study import Study
from quantizers.option_descriptions import option_descriptions

# Sections of a study file, each with its path in the file.
SECTIONS = {
    "": Study,
    "quantizers": sections.QuantizerChoice,
    "references": sections.ReferenceChoice,
    "contrasts": sections.Contrast,
    "backbone": sections.BackboneChoice,
    "data": sections.Data,
    "train": sections.Train,
    "train.warm_start": sections.WarmStart,
    "train.objective": sections.ObjectiveChoice,
    "evaluate": sections.Evaluate,
    "evaluate.robustness": sections.Robustness,
    "search": sections.Search,
    "search.space": sections.SearchSpace,
    "search.families": sections.Family,
    "search.pruner": sections.Pruner,
}

# Names of codec and experiments that a program of a user's own needs.
CODEC = (
    "codec.model.Codec",
    "codec.model.build",
    *(f"codec.backbones.{name}" for name in backbones.__all__),
    "codec.bitstream.recordings.encode",
    "codec.bitstream.recordings.decode",
    "codec.bitstream.container.CodedRecording",
    "codec.bitstream.container.StreamError",
    "codec.checkpoints.load_wavtokenizer",
    "codec.checkpoints.CheckpointError",
    "codec.inference.prepare",
)
EXPERIMENTS = (
    "experiments.studies.study.Study",
    "experiments.studies.study.load",
    "experiments.studies.study.check",
    "experiments.evaluation.scores.score",
    "experiments.evaluation.scores.aggregate",
    *(f"experiments.metrics.{name}" for name in metrics.__all__),
)


def pages() -> dict[str, str]:
    """The text of each page, by its name without the ending."""
    return {
        "commands": commands_page(),
        "study_keys": keys_page(),
        "quantizers": quantizers_page(),
        "metrics": metrics_page(),
        "api_quantizers": _api("quantizers", [f"quantizers.{name}" for name in quantizers.__all__]),
        "api_codec": _api("codec", CODEC),
        "api_experiments": _api("experiments", EXPERIMENTS),
        "api_analysis": _api("analysis", [f"analysis.{name}" for name in analysis.__all__]),
    }


def commands() -> Iterator[tuple[str, Any]]:
    """Every command with its full name, such as `list quantizers`, and the group that starts them all."""
    root: Any = typer.main.get_command(cli.app)
    yield "", root
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield name, command
            yield from ((f"{name} {inner}", one) for inner, one in command.commands.items())
        else:
            yield name, command


def commands_page() -> str:
    """Every command with its arguments and options."""
    parts = ["# Commands\n\nGenerated from the code. [The command line](../commands.md) has exit codes.\n"]
    for name, command in commands():
        title = f"codecbench {name}".strip()
        about = inspect.cleandoc(command.help or "").replace("\b\n", "")
        context = command.context_class(command, info_name=title)  # typer may bring a click of its own
        usage = " ".join(command.collect_usage_pieces(context))
        parts.append(f"## {title}\n\n{_escaped(about)}\n\n```text\n{title} {usage}\n```\n")
        rows = [_parameter(*record) for one in command.params if (record := one.get_help_record(context))]
        if rows:
            head = "| argument or option | default | meaning |\n| --- | --- | --- |\n"
            parts.append(head + "\n".join(rows) + "\n")
    return "\n".join(parts)


_FACTS = re.compile(r"\s*\[((?:required|default: |x|[-\d.]+<)[^\[\]]*)\]$")


def _parameter(names: str, about: str) -> str:
    """A row of the table, from what `--help` prints: facts in brackets get a column of their own."""
    default, meaning = "", _escaped(about)
    if found := _FACTS.search(about):
        meaning = _escaped(about[: found.start()])
        for fact in found[1].split("; "):
            if fact == "required":
                default = "must be given"
            elif fact.startswith("default: "):
                default = f"`{fact.removeprefix('default: ')}`"
            else:
                meaning += f"; `{fact}`"
    cells = [f"`{_cell(names)}`", _cell(default), _cell(meaning)]
    return "| " + " | ".join(cells) + " |"


def keys_page() -> str:
    """Every key of a study file."""
    parts = [
        "# Keys of a study\n\nGenerated from the models that check study files; descriptions name the unit. "
        "[Studies](../studies.md) explains how to use them.\n"
    ]
    for path, model in SECTIONS.items():
        page = {"train": "training", "search": "search"}.get(path.split(".")[0], "studies")
        table = _typed(model).replace("[below](#", f"[{page}](#").replace("](#", f"](../{page}.md#")
        parts.append(f"## {path or 'study'}\n\n{table}")
    return "\n".join(parts)


def _typed(model: Any) -> str:
    """The table of keys with a column of types, which the pages in docs/ leave out."""
    head, line, *rows = key_table(model).splitlines()
    typed = [_with_cell(head, "type"), _with_cell(line, "---")]
    for row in rows:
        name = row.split("`")[1]
        typed.append(_with_cell(row, f"`{_type(model.model_fields[name].annotation)}`".replace("|", "\\|")))
    return "\n".join(typed) + "\n"


def _with_cell(row: str, cell: str) -> str:
    first, rest = row.removeprefix("| ").split(" | ", 1)
    return f"| {first} | {cell} | {rest}"


_WORDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "NoneType": "null",
}


def _type(annotation: Any) -> str:
    """The type of a value in a study file, in words."""
    origin, arguments = getattr(annotation, "__origin__", None), getattr(annotation, "__args__", ())
    if hasattr(annotation, "__metadata__"):
        return _type(origin)
    name = getattr(origin or annotation, "__name__", str(annotation))
    if name == "Literal":
        return "text" if all(isinstance(one, str) for one in arguments) else "value"
    if name == "tuple":
        return f"list of {_type(arguments[0])}"
    if name in ("dict", "Mapping") or hasattr(annotation, "model_fields"):
        return "mapping"
    if arguments:
        return " or ".join(dict.fromkeys(_type(one) for one in arguments))
    return _WORDS.get(name, name)


def quantizers_page() -> str:
    """Every registered quantizer with its options."""
    parts = ["# Quantizers\n\nGenerated from the registry. [Quantizers](../quantizers.md) explains them.\n"]
    for name in quantizers.available():
        entry = quantizers.entry(name)
        about = inspect.cleandoc(entry.cls.__doc__ or "")
        paper = f" Paper: {entry.paper}." if entry.paper else ""
        parts.append(f"## {name}\n\n{_escaped(about)}\n\nFamily: {entry.cls.family}.{paper}\n")
        rows = list(_options(entry))
        if rows:
            head = "| option | type | default | meaning |\n| --- | --- | --- | --- |\n"
            parts.append(head + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _options(entry: Any) -> Iterator[str]:
    fields = {one.name: one for one in dataclasses.fields(entry.cls.config_class)}
    meanings = option_descriptions(entry.name)
    for name in entry.options:
        one = fields.get(name)
        meaning = _cell(_escaped(meanings.get(name, "")))
        if one is None:
            yield f"| `{name}` |  | only with `bits` | {meaning} |"
            continue
        if one.default is not dataclasses.MISSING:
            default = f"`{one.default!r}`"
        elif one.default_factory is not dataclasses.MISSING:
            default = f"`{one.default_factory()!r}`"
        else:
            default = "given, or chosen from `bits`"
        kind = one.type if isinstance(one.type, str) else getattr(one.type, "__name__", str(one.type))
        yield f"| `{name}` | `{_cell(kind)}` | {_cell(default)} | {meaning} |"


def metrics_page() -> str:
    """Every metric with unit, direction, sample rate and cost."""
    parts = [
        "# Metrics\n\nGenerated from the registry. Cost is in CPU seconds per second of audio on one thread. "
        "[Metrics](../metrics.md) says what each can and cannot tell.\n",
        "| metric | unit | better | sample rate | backend | cost | use | install |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    better = {True: "higher", False: "lower", None: "neither"}
    for name in metrics.available():
        one = metrics.get(name)
        rate = f"{one.sample_rate:,} Hz" if one.sample_rate else "the clip's"
        install = f"`pip install {one.install}`" if one.install else "included"
        cells = [f"`{name}`", one.unit, better[one.higher_is_better], rate, one.backend, one.cost]
        parts.append(
            "| " + " | ".join(_cell(cell) for cell in [*cells, _escaped(one.summary), install]) + " |"
        )
    return "\n".join(parts) + "\n"


def _api(package: str, names: Any) -> str:
    parts = [f"# Python: {package}\n\nGenerated from docstrings.\n"]
    parts += [f"::: {_home(name)}\n" for name in names]
    return "\n".join(parts)


def _home(name: str) -> str:
    """The path at which a name is defined, which a package's face imports late."""
    module, _, last = name.rpartition(".")
    __import__(module)
    one = getattr(__import__("sys").modules[module], last)
    home = getattr(one, "__module__", None)
    defined = getattr(one, "__qualname__", None)
    return f"{home}.{defined}" if home and defined and not isinstance(one, Mapping) else name


def _cell(value: Any) -> str:
    return str(value).replace("\n", " ").replace("|", "\\|")


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("[", "\\[")
