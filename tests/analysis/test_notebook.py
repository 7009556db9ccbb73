"""docs/notebook.ipynb runs from its first cell to its last, in a kernel of its own."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXECUTE = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(notebook, sys.argv[3])
"""


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What each cell of code puts out."""
    result = tmp_path_factory.mktemp("notebook") / "executed.ipynb"
    environment = {**os.environ, "PYTHONPATH": str(DOCS.parent), "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("MPLBACKEND", None)
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, str(DOCS / "notebook.ipynb"), str(DOCS), str(result)],
        env=environment,
        cwd=result.parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads(result.read_text(encoding="utf-8"))["cells"]
    return [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]


def text_of(outputs: list[dict[str, Any]], kind: str) -> str:
    return "".join("".join(one.get("data", {}).get(kind, one.get("text", ""))) for one in outputs)


def test_the_notebook_shows_a_table_a_figure_and_a_comparison(outputs: list[list[dict[str, Any]]]) -> None:
    imported, frame, table, figure, pairs, _ = outputs
    with zipfile.ZipFile(DOCS / "results" / "studies.zip") as archive:
        runs = json.loads(archive.read("archive.json"))["runs"]
    assert f"{len(runs)} runs imported" in text_of(imported, "text/plain")
    assert "eval/pesq" in text_of(frame, "text/html")
    assert "| rvq" in text_of(table, "text/markdown")
    assert len(text_of(figure, "image/png")) > 10_000
    assert "q2d2-hex 20 bit" in text_of(pairs, "text/html")
    assert "136" in text_of(pairs, "text/html")  # utterances


def test_the_notebook_leaves_no_files(outputs: list[list[dict[str, Any]]]) -> None:
    assert outputs
    assert not (DOCS / "mlruns").exists()
    assert not (DOCS / "mlflow.db").exists()


def test_the_notebook_is_committed_without_outputs() -> None:
    cells = json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)
