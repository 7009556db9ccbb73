"""`codecbench init`, `show-study` and `schema`: study files to begin with, to read, and for editors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages
from experiments.commands.options import file_name

SCHEMA = "study.schema.json"
_SUFFIXES = (".yaml", ".yml")


def init(
    file: Annotated[
        Path, typer.Argument(parser=file_name, metavar="FILE", help="file to write: .yaml or .yml")
    ] = Path("my-study.yaml"),
    schema: Annotated[
        bool, typer.Option("--schema", help=f"also write {SCHEMA} into the same folder, for editors")
    ] = False,
) -> None:
    """Write a commented study file that runs without changes."""
    path = file if file.suffix else file.with_suffix(".yaml")
    for each in (path, *([path.with_name(SCHEMA)] if schema else ())):
        if each.exists() and each.suffix in _SUFFIXES:
            raise outputs.OutputError(f"{each} exists already; give another name, or remove it")
    outputs.check_file(path, "FILE", _SUFFIXES)

    from experiments.studies import files

    text = files.template(_study_name(path.stem))
    if schema:
        text = f"# yaml-language-server: $schema={SCHEMA}\n{text}"
        _write(path.with_name(SCHEMA), _schema_text())
    _write(path, text)
    messages().say(f"next: codecbench plan {path}", to_copy=True)


def show_study(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="name of a shipped study (codecbench list studies)")
    ],
    whole: Annotated[
        bool, typer.Option("--whole", help="include the keys of the study that it extends")
    ] = False,
) -> None:
    """Print the file of a shipped study, for example to change a copy of it."""
    from experiments.studies import files

    typer.echo(files.merged_text(name) if whole else files.shipped_text(name), nl=False)


def schema(
    file: Annotated[
        Path | None,
        typer.Option(
            "--output",
            parser=file_name,
            metavar="FILE",
            help=f"file to write, or - for stdout; default: {SCHEMA}",
        ),
    ] = None,
) -> None:
    """Write the JSON schema of study files, for completion and checks in editors."""
    if file == Path("-"):
        typer.echo(_schema_text(), nl=False)
        return
    path = file or Path(SCHEMA)
    outputs.check_file(path)
    _write(path, _schema_text())
    messages().say(f"first line of a study file: # yaml-language-server: $schema={path}", to_copy=True)


def _schema_text() -> str:
    """The schema in the package, or one that is made now where installed packages add quantizers."""
    from experiments.studies import schema_file

    return schema_file.text()


def _write(path: Path, text: str) -> None:
    if problem := outputs.save(path, lambda place: place.write_text(text, encoding="utf-8")):
        raise outputs.OutputError(problem)
    messages().say(f"wrote {path}")


def _study_name(stem: str) -> str:
    """A name of a study made from that of its file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).lstrip("._-")[:100] or "my-study"
