"""List what can be deleted, ask, and delete it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import Console, PlainTable, messages, output
from experiments.execution import leftovers
from experiments.execution.leftovers import ASKED_FOR, KINDS, Leftover
from experiments.tracking.addresses import sqlite_path
from experiments.tracking.reader import reader
from quantizers.suggestions import did_you_mean

_SHOWN = 10  # names of each kind
_DAY = 86_400.0


def clean(kinds: Sequence[str], days: float, yes: bool, runs_folder: Path, uri: str) -> None:
    """Delete what is listed of `kinds`, or of all but those that must be named.

    Raises OutputError for an unknown kind and for what could not be deleted, and TrackingError.
    """
    for kind in kinds:
        if kind not in KINDS:
            hint = did_you_mean(kind, KINDS)
            raise outputs.OutputError(f"--kind {kind}: {hint}there are: {', '.join(KINDS)}")
    path = sqlite_path(uri)
    store = None if path is not None and not path.exists() else reader(uri)
    found = leftovers.find(store, runs_folder, days * _DAY)
    chosen = [each for each in found if each.kind in (kinds or set(KINDS) - set(ASKED_FOR))]
    console = output()
    shown = [each for each in found if not kinds or each.kind in kinds]
    if shown:
        _print(shown, console)
    if not chosen:
        console.say("nothing to delete" + ("" if not shown else " unless it is named by --kind"))
        return
    total = f"{len(chosen)} things, {size(sum(each.size for each in chosen))}"
    if not yes:
        if not sys.stdin.isatty():
            console.say(f"nothing was deleted; --yes deletes {total}")
            return
        if not typer.confirm(f"Delete {total}?", err=True):
            console.say("nothing was deleted")
            return
    _delete(chosen, console)


def size(number: float) -> str:
    """A number of bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "bytes" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} TB"


def _print(found: Sequence[Leftover], console: Console) -> None:
    table = PlainTable("kind", "number", "size", "what it is", texts=("what it is",))
    by_kind = {kind: [each for each in found if each.kind == kind] for kind in KINDS}
    for kind, each in by_kind.items():
        if each:
            named = f" (only with --kind {kind})" if kind in ASKED_FOR else ""
            table.add(kind, str(len(each)), size(sum(one.size for one in each)), KINDS[kind] + named)
    console.table(table)
    for kind, each in by_kind.items():
        for one in each[:_SHOWN]:
            console.say(f"  {kind}: {one.name} ({size(one.size)})", to_copy=True)
        if len(each) > _SHOWN:
            console.say(f"  {kind}: and {len(each) - _SHOWN} more")


def _delete(chosen: Sequence[Leftover], console: Console) -> None:
    deleted, problems = 0, []
    for each in chosen:
        try:
            each.delete()
            deleted += each.size
        except OSError as error:
            problems.append(outputs.explanation(error, each.name))
    console.say(f"deleted {len(chosen) - len(problems)} things, {size(deleted)}")
    if problems:
        messages().say_lines("\n".join(problems))
        raise outputs.OutputError(f"{len(problems)} things could not be deleted")
