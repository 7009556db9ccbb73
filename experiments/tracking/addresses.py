"""Addresses of tracking stores: which one is meant, and what is wrong with one that cannot be right."""

from __future__ import annotations

import os
import re
from importlib.metadata import entry_points
from pathlib import Path

from experiments.tracking.errors import DEFAULT_STORE, TrackingError, shown

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_SERVERS = ("http", "https")
_OTHERS = ("databricks", "databricks-uc", "uc")
_EXAMPLES = f"{DEFAULT_STORE}, http://127.0.0.1:5000 or postgresql://user@machine/database"
_SQLITE = re.compile(r"sqlite(?:\+\w+)?:///(?P<path>[^?]*)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_HOST_AND_PORT = re.compile(r"[A-Za-z0-9.-]+:\d+(/.*)?")


def store_uri(given: str | None = None) -> str:
    """`given`, else $MLFLOW_TRACKING_URI, else the default store in the working directory.

    Raises TrackingError for what cannot be the address of a store.
    """
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_STORE
    check(uri)
    return uri


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store; None for any other store."""
    match = _SQLITE.match(uri)
    return Path(match["path"]) if match else None


def absolute(uri: str) -> str:
    """`uri` with the whole path of an SQLite store's file, which a change of the working directory leaves."""
    match = _SQLITE.match(uri)
    if match is None:
        return uri
    start, end = match.span("path")
    return f"{uri[:start]}{Path(match['path']).absolute()}{uri[end:]}"


def check(uri: str) -> None:
    """Raise TrackingError for what cannot be the address of a store, with the one that may be meant."""
    if match := _SQLITE.match(uri):
        if match["path"] in ("", ":memory:"):
            raise _wrong(
                uri, "names no file, and a store in memory is lost when its process ends", DEFAULT_STORE
            )
        if Path(match["path"]).is_dir():
            raise _wrong(uri, "names a folder", f"{uri.rstrip('/')}/mlflow.db")
        return
    match = _SCHEME.match(uri)
    scheme = match[1].lower().split("+")[0] if match else ""
    if scheme == "sqlite":
        path = uri.split(":", 1)[1].lstrip("/") or "mlflow.db"
        raise _wrong(uri, "has no three slashes after `sqlite:`", f"sqlite:///{path}")
    if scheme in (*_DATABASES, *_SERVERS):
        if not uri[len(scheme) :].lstrip("+abcdefghijklmnopqrstuvwxyz0123456789_").startswith("://"):
            raise _wrong(uri, "lacks `://` after its first word", _EXAMPLES)
        return
    if scheme in _OTHERS or uri in _OTHERS or scheme in _plugins():
        return
    if scheme == "file" or (not scheme and _is_file_store(uri)):
        if _file_stores_are_allowed():
            return
        raise TrackingError(
            f"the tracking store {uri} is a folder of files, a kind of store that MLflow no longer supports. "
            f"Remedy: give {DEFAULT_STORE}; `mlflow migrate-filestore` copies the runs of the folder."
        )
    if _HOST_AND_PORT.fullmatch(uri):
        raise _wrong(uri, "does not name a protocol", f"http://{uri}")
    if not scheme or len(scheme) == 1:  # a path, with a drive's letter or without
        raise _wrong(uri, "is a path", f"sqlite:///{uri.removeprefix('./')}")
    raise _wrong(uri, f"begins with {scheme}:, and no kind of store does", _EXAMPLES)


def _wrong(uri: str, why: str, instead: str) -> TrackingError:
    return TrackingError(
        f"{shown(uri)!r} is not the address of a tracking store: it {why}. Remedy: did you mean {instead}? "
        "It comes from --tracking-uri, or from MLFLOW_TRACKING_URI."
    )


def _is_file_store(uri: str) -> bool:
    path = Path(uri)
    return path.name == "mlruns" or path.is_dir()


def _file_stores_are_allowed() -> bool:
    return os.environ.get("MLFLOW_ALLOW_FILE_STORE", "").lower() in ("true", "1")


def _plugins() -> set[str]:
    """Schemes of stores that other packages bring."""
    return {entry.name for entry in entry_points(group="mlflow.tracking_store")}
