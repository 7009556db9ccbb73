"""Clients of a tracking store: MLflow's own, opened without its chatter and its long waits."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from experiments.tracking.addresses import absolute, check, sqlite_path
from experiments.tracking.errors import explained
from experiments.tracking.sqlite_file import make_ready

if TYPE_CHECKING:
    from mlflow import MlflowClient

PAGE = 1000  # entries of an answer
Entry = TypeVar("Entry", covariant=True)


class Page(Protocol[Entry]):
    """A part of an answer; `token` asks for the next one."""

    token: str | None

    def __iter__(self) -> Any: ...


def pages(search: Callable[[str | None], Iterable[Entry]]) -> list[Entry]:
    """All entries of a search, which takes the token of a page and gives that page."""
    entries: list[Entry] = []
    token: str | None = None
    while True:
        page = search(token)
        entries += page
        token = getattr(page, "token", None)
        if not token:
            return entries


def connect(uri: str, *, make: bool = False) -> MlflowClient:
    """A client of the store at `uri`.

    make: whether to make a local store where there is none. Raises TrackingError.
    """
    check(uri)
    quiet_mlflow()
    with explained(uri, training=make):
        from mlflow import MlflowClient

        if (path := sqlite_path(uri)) is not None:
            make_ready(path, uri, make=make)
        elif not uri.startswith(("http:", "https:")) and "://" in uri:
            _reach_database(uri)
        # MLflow keeps connections by address: by a relative one it would go on with another folder's file.
        return MlflowClient(tracking_uri=absolute(uri))


def _reach_database(uri: str) -> None:
    """Connect once: MLflow itself tries for minutes before it says what is wrong."""
    import sqlalchemy

    if uri.split(":")[0].split("+")[0] not in ("postgresql", "mysql", "mssql"):
        return
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect():
        pass


def quiet_mlflow() -> None:
    """Keep MLflow from chatting on the terminal and from phoning home, unless the user asked for it."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A server that is away says so within seconds: who waits for it, and how long, is for `Store` to decide.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # What the database says comes as an exception, too, and is told in one line.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
