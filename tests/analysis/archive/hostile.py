"""A small whole archive, and ways to change it. For tests of what `codecbench import` takes."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.archive import count_table, score_table

Members = dict[str, bytes]
TOGETHER = ("scores.parquet", "counts.parquet", "texts.json")  # members of all runs, which format 1 has not


def members_of(path: Path) -> Members:
    """All members of a zip, by name."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: Mapping[str, bytes]) -> Path:
    """A zip of `members`."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_listing(members: Members, change: Callable[[dict[str, Any]], object]) -> Members:
    """`members` with another `archive.json`; `change` changes its values in place."""
    listing = json.loads(members["archive.json"])
    change(listing)
    return {**members, "archive.json": json.dumps(listing).encode()}


def of_format_1(members: Members) -> Members:
    """The same archive as codecbench 0.1 wrote it: scores, counts and texts as files of each run."""
    listing = json.loads(members["archive.json"])
    runs = [run["id"] for run in listing["runs"]]
    old = {name: c for name, c in members.items() if name not in TOGETHER}
    for run, files in json.loads(members["texts.json"]).items():
        old |= {f"artifacts/{run}/{name}": text.encode() for name, text in files.items()}
    for run, scores in score_table.unpacked(members["scores.parquet"], runs).items():
        buffer = io.BytesIO()
        scores.to_pandas().astype({name: str for name in scores.column_names if name != "value"}).to_parquet(
            buffer
        )
        old[f"artifacts/{run}/utterances.parquet"] = buffer.getvalue()
    for run, counts in count_table.unpacked(members["counts.parquet"], runs).items():
        old[f"artifacts/{run}/histograms.npz"] = arrays(**counts)
    return with_listing(old, lambda values: values.update(format=1))


def member(members: Members, end: str) -> str:
    """The first member whose name ends so."""
    return next(name for name in sorted(members) if name.endswith(end))


def arrays(**values: np.ndarray) -> bytes:
    """The bytes of an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, **values)  # type: ignore[arg-type]
    return buffer.getvalue()
