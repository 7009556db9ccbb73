"""Places of artifacts: folders on this machine, also after they were moved together with their store.

MLflow keeps absolute addresses. When a folder with `mlflow.db` and `mlruns` gets another name, the addresses
name what is not there any more, so the same folders are looked for beside the store's file.
"""

from __future__ import annotations

import logging
import re
import sqlite3
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from experiments.tracking.addresses import sqlite_path
from experiments.tracking.schema import Tag
from experiments.tracking.sqlite_file import BUSY_SECONDS

_ADDRESSES = (  # of artifacts, in MLflow's tables: table, column
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")  # such as s3: or mlflow-artifacts:, but no drive's letter

_log = logging.getLogger("codecbench.tracking")


def local_folder(address: str) -> Path | None:
    """The folder that an address names, None where that is on a server or in a bucket."""
    if address.startswith("file:"):
        return Path(urllib.request.url2pathname(urllib.parse.urlparse(address).path))
    return None if not address or _SCHEME.match(address) else Path(address)


def candidates(address: str, uri: str) -> list[Path]:
    """Where the files of a local `address` of the store at `uri` may be: there, or beside the store's file.

    Beside it, the end of the address is looked for, `mlruns/<study>/<run>/artifacts` or a part of it that
    still has the run's own name. Empty for what is not on this machine.
    """
    folder = local_folder(address)
    if folder is None:
        return []
    store = sqlite_path(uri)
    beside = [] if store is None else [store.resolve().parent / end for end in _ends(folder)]
    return [folder, *(one for one in beside if one != folder)]


def current(address: str, uri: str) -> Path | None:
    """The folder of a local `address` of the store at `uri`, wherever it is now; None for other addresses."""
    places = candidates(address, uri)
    return next((place for place in places if place.is_dir()), places[0] if places else None)


def follow(path: Path) -> None:
    """Correct the addresses in the SQLite store at `path`, if it was moved together with its artifacts.

    An address is corrected when its folder is gone and the same one is beside the store. Nothing is changed
    while somebody works with the store, who may see it under its old name. Raises sqlite3.Error.
    """
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection, connection:
        moved = list(_moved(connection, path))
        if not moved or _is_leased(connection):
            return
        for old, new in moved:
            for table, column in _ADDRESSES:
                connection.execute(
                    f"UPDATE {table} SET {column} = ? || substr({column}, ?) "
                    f"WHERE {column} = ? OR substr({column}, 1, ?) = ?",
                    (new, len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
            _log.warning("artifacts in %s are now beside the store, in %s: their addresses follow", old, new)


def _moved(connection: sqlite3.Connection, path: Path) -> Iterator[tuple[str, str]]:
    """Old and new address of each study's folder that was moved."""
    for (old,) in connection.execute("SELECT artifact_location FROM experiments"):
        folder = local_folder(old or "")
        if folder is None or not folder.is_absolute() or folder.exists():
            continue
        for end in _ends(folder):
            new = path.resolve().parent / end
            if new.is_dir():
                yield old, new.as_uri() if old.startswith("file:") else str(new)
                break


def _is_leased(connection: sqlite3.Connection) -> bool:
    found = connection.execute("SELECT 1 FROM experiment_tags WHERE key LIKE ? LIMIT 1", (f"{Tag.LEASE}%",))
    return found.fetchone() is not None


def _ends(folder: Path) -> list[Path]:
    """The ends of a path, from all but its root to its last two parts."""
    parts = folder.parts[1:] if folder.is_absolute() else folder.parts
    return [Path(*parts[start:]) for start in range(len(parts) - 1)]
