"""Files in an archive: each is checked by its kind, within limits, before anything of it is stored.

Every check takes the bytes of a file and raises ValueError for what it does not take.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from experiments.tracking import artifacts

MEMBER_BYTES = 2**29  # of one file, unpacked
SMALL = 2**20  # bytes, below which nobody minds how much a file grows
ROWS = 5_000_000  # of scores of a run
POINTS = 50_000_000  # of all learning curves; also of the scores and of the counts of all runs
_TEXTS = 2**29  # characters of a column of texts
_LONGEST = 4096  # characters of the name of an utterance
_AUDIO_FRAMES = 30 * 60 * 192_000
_METRIC = re.compile(r"[/\w.: -]{1,250}")

SCORE_COLUMNS = {"utterance": "text", "metric": "text", "value": "number", "status": "text"}
LATER_COLUMNS = {"backend": "text", "protocol": "text"}  # the first scores had none
TEXTS_OF_RUN = (artifacts.CONFIG, artifacts.USAGE, artifacts.ERROR)

Points = Sequence[tuple[str, int, float]]  # metric, step, value

COUNTED = re.compile(r"(factor|pair)_[0-9]{1,4}")
_ARRAY = {  # names of arrays, their dimensions, whether they are whole numbers
    artifacts.HISTOGRAMS: (COUNTED, (1,), True),
    artifacts.LATENTS: (re.compile(r"pair_[0-9]{1,4}"), (2,), False),
    artifacts.SNAPSHOTS: (re.compile(r"steps|pair_[0-9]{1,4}"), (1, 3), False),
    artifacts.SLICES: (re.compile(r"(points|distances|latents|explained)_[0-9]{1,4}"), (1, 2), False),
}


def curves(content: bytes, runs: Collection[str]) -> dict[str, Points]:
    """Learning curves by run, of `histories.parquet`; `runs` are those that there may be."""
    table = bounded(content, {"run": "text", "metric": "text", "step": "whole", "value": "number"}, POINTS)
    frame = table.to_pandas(types_mapper=None)
    found: dict[str, Points] = {}
    if len(frame) and (frame["step"].min() < 0 or frame["step"].max() > 2**53):
        raise ValueError("step: is negative, or too large")
    for run, points in frame.groupby("run", observed=True, sort=False):
        if run not in runs:
            raise ValueError(f"run: {run!r} is not in the listing")
        found[str(run)] = list(
            zip(
                points["metric"].astype(str).tolist(),
                points["step"].tolist(),
                points["value"].tolist(),
                strict=True,
            )
        )
    for metric in pc.unique(table["metric"]).to_pylist():
        if not _METRIC.fullmatch(metric) or any(part in ("", ".", "..") for part in metric.split("/")):
            raise ValueError(f"metric: {metric[:80]!r} is not a name that MLflow takes")
    return found


def texts(content: bytes, runs: Collection[str]) -> dict[str, dict[str, bytes]]:
    """Small text files by run and name, of `texts.json`; `runs` are those that there may be."""
    _check_json(content)
    found: dict[str, dict[str, bytes]] = {}
    for run, files in json.loads(content).items():
        if run not in runs:
            raise ValueError(f"{run[:80]!r} is not in the listing")
        if not isinstance(files, dict) or not set(files) <= set(TEXTS_OF_RUN):
            raise ValueError(f"{run}: has a file that is none of {', '.join(TEXTS_OF_RUN)}")
        found[run] = {}
        for name, text in files.items():
            if not isinstance(text, str):
                raise ValueError(f"{run}/{name}: is not a text")
            found[run][name] = text.encode()
            try:
                CHECKS[name](found[run][name])
            except ValueError as error:
                raise ValueError(f"{run}/{name}: {error}") from None
    return found


def _check_scores_of_run(content: bytes) -> None:
    check_scores(bounded(content, SCORE_COLUMNS, ROWS, LATER_COLUMNS))


def check_scores(table: pa.Table) -> None:
    """The scores of one run: finite or not a number, and one for each utterance and metric."""
    values = table["value"].to_numpy()
    wrong = ~np.isfinite(values) & ~np.isnan(values) | (np.abs(values) > 1e12)
    if wrong.any():
        raise ValueError(f"value: {values[wrong][0]} is not a score")
    keys = zip(table["utterance"].to_pylist(), table["metric"].to_pylist(), strict=True)
    if len(set(keys)) < len(table):
        raise ValueError("an utterance has two scores by one metric")


def bounded(
    content: bytes,
    columns: Mapping[str, str],
    most: int,
    more: Mapping[str, str] = MappingProxyType({}),
    *,
    gaps: Collection[str] = (),
) -> pa.Table:
    """The table in a Parquet file with these columns, perhaps some of `more` and no others, of these kinds,
    with `most` rows at most, and with gaps only in numbers and in the columns named by `gaps`.

    Texts are read as numbers into a list of them, so that repetitions take no room.
    """
    names = pq.ParquetFile(io.BytesIO(content)).schema_arrow.names
    columns = {**columns, **{name: kind for name, kind in more.items() if name in names}}
    texts = [name for name, kind in columns.items() if kind == "text" and name in names]
    file = pq.ParquetFile(io.BytesIO(content), read_dictionary=texts)
    schema, meta = file.schema_arrow, file.metadata
    if set(schema.names) != set(columns):
        raise ValueError(f"the columns are {', '.join(schema.names)[:200]}, not {', '.join(columns)}")
    unpacked = sum(meta.row_group(number).total_byte_size for number in range(meta.num_row_groups))
    if meta.num_rows > most or unpacked > MEMBER_BYTES:
        raise ValueError(f"has {meta.num_rows} rows and {unpacked} bytes, which is too much")
    for name, kind in columns.items():
        kinds: dict[str, Callable[[pa.DataType], bool]] = {
            "text": lambda t: pa.types.is_dictionary(t) and _is_text(t.value_type),
            "whole": pa.types.is_integer,
            "number": lambda t: pa.types.is_float64(t) or pa.types.is_float32(t),
        }
        if not kinds[kind](schema.field(name).type):
            raise ValueError(f"{name}: is {schema.field(name).type}, not a {kind}")
    table = file.read().select(list(columns)).replace_schema_metadata(None)
    if len(table) > most:
        raise ValueError("has more rows than it says")
    for name, kind in columns.items():
        if table[name].null_count and kind != "number" and name not in gaps:
            raise ValueError(f"{name}: has gaps")
        if kind == "text":
            _check_texts(table[name], name)
    return table


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _check_texts(column: pa.ChunkedArray, name: str) -> None:
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).to_numpy(zero_copy_only=False)
        if len(lengths) and lengths.max() > _LONGEST:
            raise ValueError(f"{name}: a text is longer than {_LONGEST} characters")
        total += int(lengths[chunk.indices.drop_null().to_numpy()].sum()) if len(lengths) else 0
        for text in chunk.dictionary.to_pylist():
            if any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
                raise ValueError(f"{name}: {text[:60]!r} has a control character")
    if total > _TEXTS:
        raise ValueError(f"{name}: its texts are too long together")


def _arrays_of(name: str) -> Callable[[bytes], None]:
    pattern, dimensions, whole = _ARRAY[name]

    def check(content: bytes) -> None:
        with zipfile.ZipFile(io.BytesIO(content)) as arrays:
            infos = arrays.infolist()
            if len({info.filename for info in infos}) < len(infos):
                raise ValueError("an array is there twice")
            if sum(info.file_size for info in infos) > MEMBER_BYTES:
                raise ValueError(f"is larger than {MEMBER_BYTES // 2**20} MiB when unpacked")
            for info in infos:
                key = info.filename.removesuffix(".npy")
                if not pattern.fullmatch(key) or key == info.filename:
                    raise ValueError(f"{info.filename[:80]!r} is not an array of such a file")
                _check_array(arrays, info, key, 1 if key == "steps" else None, dimensions, whole)

    return check


def _check_array(
    arrays: zipfile.ZipFile,
    info: zipfile.ZipInfo,
    key: str,
    only: int | None,
    dimensions: Sequence[int],
    whole: bool,
) -> None:
    with arrays.open(info) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{key}: is of another version of NumPy's format")
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        if kind.kind not in ("iu" if whole else "iuf") or kind.itemsize > 8:
            raise ValueError(f"{key}: has values of the kind {kind}")
        if len(shape) not in ((only,) if only else dimensions) or min(shape, default=0) < 0:
            raise ValueError(f"{key}: has the shape {shape}")
        size = info.file_size - file.tell()
        if math.prod(shape) * kind.itemsize != size:
            raise ValueError(f"{key}: has {size} bytes, which are not {shape} values of {kind}")
        values = np.frombuffer(file.read(), dtype=kind)
        if not np.isfinite(values).all() or (whole and len(values) and values.min() < 0):
            raise ValueError(f"{key}: has values that cannot be")


def _check_json(content: bytes) -> None:
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("is not a list of names and values")


def _check_names(content: bytes) -> None:
    _check_json(content)
    if not all(isinstance(name, str) for name in json.loads(content).values()):
        raise ValueError("has a name that is no text")


def _check_text(content: bytes) -> None:
    if len(content) > SMALL:
        raise ValueError("is longer than a mebibyte")
    content.decode("utf-8")


def _check_flac(content: bytes) -> None:
    import soundfile

    with soundfile.SoundFile(io.BytesIO(content)) as file:
        if file.format != "FLAC" or not 0 < file.frames <= _AUDIO_FRAMES or file.channels > 2:
            raise ValueError("is not an audio example")
        read = 0
        while len(block := file.read(2**16)):
            read += len(block)
        if read != file.frames:
            raise ValueError("ends too early")


CHECKS: Mapping[str, Callable[[bytes], None]] = {
    artifacts.SCORES: _check_scores_of_run,
    artifacts.USAGE: _check_json,
    artifacts.CONFIG: _check_text,
    artifacts.ERROR: _check_text,
    f"{artifacts.AUDIO}/{artifacts.AUDIO_NAMES}": _check_names,
    "audio": _check_flac,
    **{name: _arrays_of(name) for name in _ARRAY},
}
