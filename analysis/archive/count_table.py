"""Counts of the codes of all runs of an archive, in one table; each run gets back its own arrays."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.archive.files import COUNTED, POINTS, bounded
from analysis.archive.format import ArchiveError
from analysis.archive.score_table import compressed

Counts = Mapping[str, np.ndarray]  # [codes], by the name of a factor or a pair of channels


def of_run(path: Path) -> dict[str, np.ndarray]:
    """The counts of a run from their file; empty where the table of all runs cannot hold them.

    Raises ArchiveError for a damaged file.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ArchiveError(f"{path}, the code counts of a run, is damaged: {error}") from None
    fits = all(one.dtype == np.int64 and one.ndim == 1 and len(one) for one in arrays.values())
    return arrays if fits else {}


def packed(counts: Mapping[str, Counts]) -> bytes:
    """The counts of runs, by their ids, as one Parquet file: a row per code, in the order of the codes."""
    arrays = [(run, name, values) for run, own in counts.items() for name, values in own.items()]
    whole = pa.table(
        {
            "run": pa.chunked_array(
                [pa.array([run] * len(values)) for run, _, values in arrays], pa.string()
            ),
            "array": pa.chunked_array(
                [pa.array([name] * len(values)) for _, name, values in arrays], pa.string()
            ),
            "count": pa.chunked_array([values for _, _, values in arrays], pa.int64()),
        }
    )
    return compressed(whole, "count")


def unpacked(content: bytes, runs: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
    """The counts of each run, checked. runs: the ids that there may be. Raises ValueError."""
    table = bounded(content, {"run": "text", "array": "text", "count": "whole"}, POINTS)
    counts = table["count"].to_numpy()
    if len(counts) and counts.min() < 0:
        raise ValueError("count: is negative")
    keys = pc.binary_join_element_wise(
        *(table[name].cast(pa.string()) for name in ("run", "array")), "/"
    ).combine_chunks()
    spans = pc.run_end_encode(keys)
    found: dict[str, dict[str, np.ndarray]] = {}
    start = 0
    for key, end in zip(spans.values.to_pylist(), spans.run_ends.to_pylist(), strict=True):
        run, _, name = key.partition("/")
        if run not in runs:
            raise ValueError(f"run: {run[:80]!r} is not in the listing")
        if not COUNTED.fullmatch(name):
            raise ValueError(f"array: {name[:80]!r} is not an array of counts")
        if name in found.setdefault(run, {}):
            raise ValueError(f"array: {name} of {run} is there twice")
        found[run][name] = counts[start:end]
        start = end
    return found


def write(counts: Counts, path: Path) -> None:
    """Write the counts of one run as its artifact."""
    np.savez_compressed(path, **counts)  # type: ignore[arg-type]
