"""The environment of all tests, and the released weights that some of them need."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

# Processes that run tests in parallel get the width of the terminal from their parent; outputs to a file have
# a width of their own, which tests look at.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")  # readline, which pytest imports, sets it where os.environ does not see it


def soundstream_folder() -> Path | None:
    """The folder with the released files of Lyra 2, which no test downloads: in $CODECBENCH_SOUNDSTREAM, or
    beside the repository. None where there is none."""
    named = os.environ.get("CODECBENCH_SOUNDSTREAM")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "models" / "lyra"
    return folder if folder.is_dir() else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tests of SoundStream ran: a run without the weights proves less."""
    folder = soundstream_folder()
    terminalreporter.write_line(
        f"SoundStream's released weights: tested, from {folder}"
        if folder
        else "SoundStream's released weights: not here, tests with them were skipped; name their folder in "
        "CODECBENCH_SOUNDSTREAM"
    )


@pytest.fixture(scope="session", autouse=True)
def _cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared corpora and the tables of empty stores go to a folder of the tests'."""
    os.environ["CODECBENCH_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def _tables_are_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow makes the tables of the first new store by all of its migrations; later ones copy that file.

    The copy is what MLflow wrote. A new store took 1.6 seconds of a core, and the tests make hundreds.
    """
    from mlflow.store.db import utils

    migrate = utils._initialize_tables
    first = tmp_path_factory.mktemp("tables") / "first.db"

    def make_tables(engine: Any) -> None:
        if engine.dialect.name != "sqlite" or not utils._is_empty_database(engine):
            migrate(engine)
            return
        connection = engine.raw_connection()
        try:
            if first.exists():
                with closing(sqlite3.connect(first)) as made:
                    made.backup(connection.driver_connection)
            else:
                migrate(engine)
                with closing(sqlite3.connect(first)) as made:
                    connection.driver_connection.backup(made)
        finally:
            connection.close()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "_initialize_tables", make_tables)
        yield


@pytest.fixture(scope="session")
def lyra_files() -> Path:
    """The folder with the released files of Lyra 2; skips where there is none."""
    folder = soundstream_folder()
    if folder is None:
        pytest.skip("the weights of Lyra 2 are not here: name their folder in CODECBENCH_SOUNDSTREAM")
    return folder
