"""Scores of all runs of an archive, in one table: a file for each would be half overhead.

Each run gets back the table that it had: the same columns, rows and order.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.archive.files import LATER_COLUMNS, POINTS, SCORE_COLUMNS, bounded, check_scores
from analysis.archive.format import ArchiveError


def of_run(path: Path) -> pa.Table:
    """The scores of a run from their file. Raises ArchiveError for a damaged one."""
    try:
        return pq.read_table(path, partitioning=None).replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise ArchiveError(f"{path}, the scores of a run, is damaged: {error}") from None


def packed(scores: Mapping[str, pa.Table]) -> bytes:
    """The scores of runs, by their ids, as one Parquet file. A column that a run lacks has gaps there."""
    tables = [
        table.add_column(0, "run", pa.array([run] * len(table), pa.string())) for run, table in scores.items()
    ]
    empty = {"run": pa.string(), **dict.fromkeys(SCORE_COLUMNS, pa.string()), "value": pa.float64()}
    whole = pa.concat_tables(tables or [pa.schema(empty).empty_table()], promote_options="permissive")
    return compressed(whole, "value")


def compressed(table: pa.Table, numbers: str) -> bytes:
    """A Parquet file in few bytes. numbers: the column that is none of a few texts.

    Most scores were float32 and most counts are small, so that many of their bytes are zero: split by bytes
    they take half the room.
    """
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        compression="zstd",
        compression_level=19,
        use_dictionary=[name for name in table.column_names if name != numbers],
        column_encoding={numbers: "BYTE_STREAM_SPLIT"},
        write_statistics=False,
        store_schema=False,
    )
    return buffer.getvalue()


def unpacked(content: bytes, runs: Collection[str]) -> dict[str, pa.Table]:
    """The scores of each run, checked. runs: the ids that there may be. Raises ValueError."""
    table = bounded(content, {"run": "text", **SCORE_COLUMNS}, POINTS, LATER_COLUMNS, gaps=LATER_COLUMNS)
    table = table.unify_dictionaries().combine_chunks()
    spans = pc.run_end_encode(table["run"].cast(pa.string()).combine_chunks())
    found: dict[str, pa.Table] = {}
    start = 0
    for run, end in zip(spans.values.to_pylist(), spans.run_ends.to_pylist(), strict=True):
        if run not in runs or run in found:
            raise ValueError(f"run: {run!r} is {'there twice' if run in found else 'not in the listing'}")
        scores = table.slice(start, end - start).drop_columns("run")
        absent = [name for name in LATER_COLUMNS if name in scores.column_names and scores[name].null_count]
        if wrong := [name for name in absent if scores[name].null_count < len(scores)]:
            raise ValueError(f"{wrong[0]}: has gaps within a run")
        found[run] = scores.drop_columns(absent)
        check_scores(found[run])
        start = end
    return found


def write(scores: pa.Table, path: Path) -> None:
    """Write the scores of one run as its artifact."""
    texts = [
        pa.field(one.name, pa.float64() if one.name == "value" else pa.string()) for one in scores.schema
    ]
    pq.write_table(scores.cast(pa.schema(texts)), path)
