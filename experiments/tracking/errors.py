"""Errors of the tracking store, each as one message: what happened, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

DEFAULT_STORE = "sqlite:///mlflow.db"

# Packages that speak to a store. An error of any other is ours, and keeps its traceback.
_OF_STORES = frozenset(
    {
        *("mlflow", "requests", "urllib3", "sqlalchemy", "alembic", "sqlite3"),  # the store itself
        *("botocore", "boto3", "google", "azure", "paramiko", "pysftp", "hdfs"),  # its artifacts
        *("psycopg2", "psycopg", "pymysql", "MySQLdb", "pymssql", "pyodbc"),  # its database
    }
)
_SAFE = "nothing that was trained is lost"
_PASSWORD = re.compile(r"(?<=://)([^/@:\s]*):[^/@\s]*@")
_STATUS = re.compile(r"failed with error code (\d{3})|too many (\d{3}) error responses")


class TrackingError(ValueError):
    """The tracking store cannot be used; the message says why and what to do.

    away: asking again may help, since the store does not answer, or is busy. gone: its file is not there any
    more, so that nothing helps in this sitting.
    """

    def __init__(self, message: str, *, away: bool = False, gone: bool = False) -> None:
        super().__init__(message)
        self.away, self.gone = away, gone


def shown(text: str) -> str:
    """`text` without the passwords of the addresses in it."""
    return _PASSWORD.sub(r"\1:***@", text)


@contextmanager
def explained(uri: str, *, training: bool = False) -> Iterator[None]:
    """Turn what MLflow, its database and its server raise into a TrackingError.

    training: whether to add that nothing that was trained is lost.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, TrackingError) or not _of_store(error):
            raise
        raise _explanation(uri, error, training) from error


def _of_store(error: Exception) -> bool:
    kinds = {kind.__module__.split(".")[0] for kind in type(error).__mro__}
    return bool(kinds & _OF_STORES) or isinstance(error, OSError | ImportError)


def _explanation(uri: str, error: Exception, training: bool) -> TrackingError:
    what, remedy, away = _told(uri, error)
    end = f"; {_SAFE}" if training else ""
    return TrackingError(f"the tracking store {shown(uri)} {what}. Remedy: {remedy}{end}.", away=away)


def _told(uri: str, error: Exception) -> tuple[str, str, bool]:
    """What the store does, what to do about it, and whether to ask again may help."""
    text = f"{type(error).__name__}: {error}"
    told = None
    local = "sqlite" in uri.split(":", 1)[0]
    if uri.startswith(("http:", "https:")):
        told = _of_server(text, error)
    elif local:
        told = _of_file(text)
    elif isinstance(error, ImportError) or "NoSuchModuleError" in text:
        return (
            f"needs a driver for its database: {_first_line(error)}",
            "install it into this environment, such as `pip install psycopg2-binary` for postgresql or "
            "`pip install pymysql` for mysql+pymysql",
            False,
        )
    elif "OperationalError" in text or "TEMPORARILY_UNAVAILABLE" in _code(error):
        told = (
            f"does not answer: {_reason(text, error)}",
            "start the database server, or correct the address, the name and the password in it",
            True,
        )
    if told is None and _old_schema(text):
        told = ("has tables of another version of MLflow", upgrade(uri), False)
    if told is None and isinstance(error, OSError) and (local or not _away(error)):
        told = (
            f"cannot read or write a file: {_first_line(error)}",
            "make room, or see to the rights of that folder, and start the same command again",
            False,
        )
    # A file has no server that may come back: of what it answers, only that it is busy passes.
    if told is None and (local or not _away(error)):
        told = (
            f"refused: {_first_line(error)}",
            "mend what it names and start the same command again",
            False,
        )
    return told or (f"does not answer: {_reason(text, error)}", _START_SERVER, True)


_START_SERVER = f"start the server, or set MLFLOW_TRACKING_URI to a store such as {DEFAULT_STORE}"


def upgrade(uri: str) -> str:
    """How a store of an older MLflow is brought to this one's tables, in words."""
    return (
        f"stop all that uses it, keep a copy of it, and run `mlflow db upgrade {shown(uri)}` with this "
        "version of MLflow"
    )


def _of_server(text: str, error: Exception) -> tuple[str, str, bool] | None:
    """Troubles of http addresses: a wrong one, no right to use it, no server, or another one than MLflow."""
    code = _code(error)
    match = _STATUS.search(text)
    status = (
        int(match[1] or match[2])
        if match
        else getattr(getattr(error, "response", None), "status_code", None) or 0
    )
    if status == 401 or code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
        return (
            "wants to know who asks (401)",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN",
            False,
        )
    if status == 403 or code == "PERMISSION_DENIED":
        return (
            "denies access to this user (403)",
            "ask its owner for the right to use it, or set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to a user who has it",
            False,
        )
    if status == 404 or code == "ENDPOINT_NOT_FOUND":
        return (
            "is not the address of an MLflow server: what answers there says 404",
            "correct the address, with the path that the server has, if any",
            False,
        )
    if "not in a valid JSON format" in text or "JSONDecodeError" in text or _is_page(text):
        return (
            "answers with a page, which is not what an MLflow server says",
            "correct the address: another program, a proxy or a login stands there",
            status >= 500,
        )
    if "InvalidUrl" in text or "Invalid URL" in text or "InvalidSchema" in text:
        return "is no address", "give one such as http://127.0.0.1:5000", False
    if status == 429 or status >= 500:
        return f"does not answer: {status} from the server, or from a proxy before it", _START_SERVER, True
    return None


def _of_file(text: str) -> tuple[str, str, bool] | None:
    """Troubles of an SQLite file."""
    if "locked" in text or "database is busy" in text:
        return (
            "is locked: another program writes to it for longer than one waits",
            "end that program, or wait for it, and start the same command again",
            True,
        )
    if "not a database" in text or "malformed" in text:
        return (
            "is no SQLite database, or a damaged one",
            "correct the address, or put a copy of the file back",
            False,
        )
    if "readonly" in text or "read-only" in text:
        return (
            "cannot be written: its file or folder is read-only, or was replaced",
            "give yourself the right to write, or start the same command again",
            False,
        )
    if "disk is full" in text or "disk I/O error" in text:
        return "cannot be written: the disk is full, or fails", "make room and start it again", True
    if "unable to open" in text:
        return (
            "cannot be opened",
            "see that the folder is there and that you may read and write the file",
            False,
        )
    return None


def _old_schema(text: str) -> bool:
    words = ("out-of-date database schema", "no such table", "no such column", "has no column")
    return any(word in text for word in words) or "alembic" in text.lower()


def _is_page(text: str) -> bool:
    start = text.lower()
    return "<!doctype html" in start or "<html" in start


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))


def _away(error: BaseException) -> bool:
    """Whether to ask again may help: no answer, or a trouble of the server's own."""
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.startswith("requests")}
    if "HTTPError" in kinds and getattr(error, "response", None) is not None:
        return bool(error.response.status_code >= 500)  # type: ignore[attr-defined]
    if "RequestException" in kinds:
        return True
    return _code(error) in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED")  # type: ignore[arg-type]


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    line = shown(lines[0] if lines else type(error).__name__).rstrip(".")
    return line if len(line) < 300 else f"{line[:300]}..."


def _reason(text: str, error: Exception) -> str:
    """Why nothing answers, without the layers of libraries around it."""
    for words, reason in (
        ("Connection refused", "connection refused"),
        ("Name or service not known", "no machine of that name is known"),
        ("nodename nor servname", "no machine of that name is known"),
        ("Temporary failure in name resolution", "no machine of that name is known"),
        ("timed out", "no answer in time"),
        ("timeout exception", "no answer in time"),
        ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted"),
        ("WRONG_VERSION_NUMBER", "it does not speak https; try http"),
        ("No route to host", "no way to that machine"),
    ):
        if words in text:
            return reason
    return _first_line(error)
