"""What goes wrong with a store is one line with a remedy, for whoever reads it and whoever writes to it."""

import http.server
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from analysis import load
from experiments.tracking import leases, run_index
from experiments.tracking.addresses import check, sqlite_path, store_uri
from experiments.tracking.errors import TrackingError, explained, shown
from experiments.tracking.store import Store

READING: list[Callable[[str], object]] = [lambda uri: load("study", uri), run_index.read]
USES = [*READING, lambda uri: Store(uri, "study")]


def told(uri: str, use: Callable[[str], object]) -> str:
    """The one line that a use of a store ends with."""
    with pytest.raises(TrackingError) as error:
        use(uri)
    message = str(error.value)
    assert "\n" not in message
    assert "Remedy: " in message
    return message


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("uri", "meant"),
    [
        ("mlflow.db", "did you mean sqlite:///mlflow.db?"),
        ("results/mlflow.db", "did you mean sqlite:///results/mlflow.db?"),
        ("/data/mlflow.db", "did you mean sqlite:////data/mlflow.db?"),
        ("sqlite://mlflow.db", "did you mean sqlite:///mlflow.db?"),
        ("sqlite:mlflow.db", "did you mean sqlite:///mlflow.db?"),
        ("sqlite:///", "did you mean sqlite:///mlflow.db?"),
        ("sqlite:///:memory:", "did you mean sqlite:///mlflow.db?"),
        ("localhost:5000", "did you mean http://localhost:5000?"),
        ("127.0.0.1:5000/tracking", "did you mean http://127.0.0.1:5000/tracking?"),
        ("http:/localhost:5000", "did you mean sqlite:///mlflow.db, http://127.0.0.1:5000"),
        ("postgres://me@machine/db", "begins with postgres:, and no kind of store does"),
        ("./mlruns", "a kind of store that MLflow no longer supports"),
        ("file:mlruns", "mlflow migrate-filestore"),
    ],
)
def test_an_address_that_cannot_be_right_is_told_with_the_one_that_is_meant(
    use: Callable[[str], object], uri: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    assert meant in told(uri, use)
    assert time.monotonic() - began < 1
    assert not list(tmp_path.iterdir())


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert f"did you mean sqlite:///{tmp_path}/mlflow.db?" in told(f"sqlite:///{tmp_path}", READING[0])


def test_addresses_that_may_be_right_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    good = ["sqlite:///a b.db", "sqlite:////abs/x.db?timeout=3", "http://127.0.0.1:9", "https://host/mlflow"]
    good += [
        "postgresql://u:p@h/db",
        "postgresql+psycopg2://h/db",
        "mysql+pymysql://h/db",
        "databricks",
        "uc:x",
    ]
    for uri in good:
        check(uri)
    assert sqlite_path("sqlite:///a b.db?timeout=3") == Path("a b.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlflow.db")
    with pytest.raises(TrackingError, match="or from MLFLOW_TRACKING_URI"):
        store_uri()
    assert store_uri("http://h") == "http://h"


def test_passwords_are_not_told() -> None:
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("http://host:5000/a@b") == "http://host:5000/a@b"
    with pytest.raises(TrackingError) as error, explained("postgresql://me:secret@127.0.0.1:9/db"):
        raise ImportError("no driver for postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(error.value)


@contextmanager
def server(status: int, body: str, kind: str = "text/html") -> Iterator[str]:
    """Something on this machine that answers all requests alike."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}"
    finally:
        running.shutdown()
        running.server_close()
        thread.join()


PAGE = "<!DOCTYPE html><html><body>\nlog in\n</body></html>"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if for a server near by: no pauses between tries."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (401, "who are you", "wants to know who asks (401). Remedy: set MLFLOW_TRACKING_USERNAME"),
        (401, '{"error_code": "UNAUTHENTICATED", "message": "no"}', "wants to know who asks (401)"),
        (403, PAGE, "denies access to this user (403)"),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "no"}', "denies access to this user (403)"),
        (404, PAGE, "is not the address of an MLflow server: what answers there says 404"),
        (404, "nothing", "is not the address of an MLflow server"),
        (
            502,
            PAGE,
            "does not answer: 502 from the server, or from a proxy before it. Remedy: start the server",
        ),
        (503, "later", "does not answer: 503"),
        (200, PAGE, "answers with a page, which is not what an MLflow server says"),
        (200, "hello", "answers with a page"),
    ],
)
def test_what_a_server_answers_is_told_in_one_line(
    use: Callable[[str], object], status: int, body: str, words: str
) -> None:
    with server(status, body, "application/json" if body.startswith("{") else "text/html") as uri:
        assert f"the tracking store {uri} {words}" in told(uri, use)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("use", USES)
def test_a_server_that_is_not_there_is_told_quickly(use: Callable[[str], object]) -> None:
    began = time.monotonic()
    assert "does not answer: connection refused. Remedy: start the server" in told("http://127.0.0.1:9", use)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("use", USES)
def test_a_database_that_is_not_there_or_has_no_driver_is_told_at_once(use: Callable[[str], object]) -> None:
    began = time.monotonic()
    message = told("postgresql+nodriver://me@127.0.0.1:9/db", use)
    assert "needs a driver for its database" in message
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("use", USES)
def test_a_file_that_is_no_database_is_told(use: Callable[[str], object], tmp_path: Path) -> None:
    (tmp_path / "not.db").write_text("no database\n" * 100)
    assert "is no SQLite database, or a damaged one" in told(f"sqlite:///{tmp_path}/not.db", use)
    assert (tmp_path / "not.db").read_text().startswith("no database")


@pytest.mark.parametrize("use", USES)
def test_a_database_that_is_locked_is_told(
    use: Callable[[str], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("experiments.tracking.sqlite_file.BUSY_SECONDS", 0.5)
    uri = "sqlite:///mlflow.db"
    Store(uri, "study")
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "is locked: another program writes to it" in told(uri, use)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.touch(0o000)
    assert "cannot be opened" in told(f"sqlite:///{path}", READING[0])


def test_errors_of_ours_keep_their_traceback() -> None:
    with pytest.raises(KeyError), explained("sqlite:///mlflow.db"):
        raise KeyError("a mistake of the program")


@pytest.mark.parametrize("given", ["abc", "0", "-1", "nan", "inf"])
def test_a_lease_that_is_no_time_names_its_variable(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_LEASE_SECONDS", given)
    with pytest.raises(TrackingError, match=f"CODECBENCH_LEASE_SECONDS is '{given}'; give it .*such as 60"):
        leases.seconds()
