import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from analysis import load
from analysis.reports.output_folder import MARKER, prepare_output
from analysis.reports.paper import runs_behind, write_paper
from analysis.results.study_results import Results


@pytest.fixture(scope="module")
def results(store: Any) -> Results:
    effects = {"vq": -0.5, "fsq": 0.0, "q2d2-hex": 0.3}
    runs = [store.Run("none", bits=0.0, effect=2.0)]
    for name, effect in effects.items():
        for bits in (13.4, 18.8):
            for seed in (0, 1):
                hexagonal = {"params": {"quantizer.options.levels": "[5, 5]"}} if name == "q2d2-hex" else {}
                label = f"{name} {bits} bit"
                more = effect + 0.2 * (bits - 13)
                runs.append(store.Run(label, quantizer=name, bits=bits, seed=seed, effect=more, **hexagonal))
    runs.append(store.Run("50% of a_b & <x>", bits=18.8, status="failed", reason="disk {full} #1"))
    store.study("kit", runs)
    return load("kit", store.uri)


@pytest.fixture(scope="module")
def kit(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_paper(results, tmp_path_factory.mktemp("kit")).parent


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_same_results_give_the_same_bytes(kit: Path, results: Results, tmp_path: Path) -> None:
    prepare_output(tmp_path, "paper", ("tables", "figures"))
    (tmp_path / "figures" / "old.pdf").write_text("of an earlier kit")
    write_paper(load("kit", results.tracking_uri), tmp_path)
    assert contents(tmp_path) == contents(kit)


def test_every_file_is_traced_to_its_runs(kit: Path, results: Results) -> None:
    told = json.loads((kit / "provenance.json").read_text(encoding="utf-8"))
    assert set(told["files"]) == set(contents(kit)) - {"provenance.json", MARKER}
    hashes = {run["run_hash"] for run in told["runs"]}
    assert len(hashes) == 14
    for name, file in told["files"].items():
        assert file["sha256"] == hashlib.sha256((kit / name).read_bytes()).hexdigest()
        assert file["runs"], name
        assert set(file["runs"]) <= hashes
    assert told["files"]["figures/voronoi-q2d2-hex-13.4-bit.pdf"]["runs"] == [
        "q2d2-hex 13.4 bit-0-13.4",
        "q2d2-hex 13.4 bit-1-13.4",
    ]
    assert not any("none" in run for run in told["files"]["tables/differences.tex"]["runs"])
    (failed,) = [run for run in told["runs"] if run["status"] == "failed"]
    assert failed["reason"] == "disk {full} #1"
    assert {run["git_commit"] for run in told["runs"]} == {"a" * 40}
    assert {"codecbench", "matplotlib", "python"} <= set(told["made_with"])


def test_the_document_includes_everything(kit: Path) -> None:
    text = (kit / "main.tex").read_text(encoding="utf-8")
    tables = set(re.findall(r"\\input\{tables/(\S+)\.tex\}", text))
    figures = set(re.findall(r"\\includegraphics\[\S+\]\{figures/(\S+)\.pdf\}", text))
    assert (
        tables == {path.stem for path in (kit / "tables").glob("*.tex")} >= {"quality", "differences", "bd"}
    )
    assert figures == {path.stem for path in (kit / "figures").glob("*.pdf")}
    assert len(figures) > 5


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs LaTeX")
def test_the_document_compiles(kit: Path, tmp_path: Path) -> None:
    shutil.copytree(kit, tmp_path / "kit")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "main.tex"]
    made = []
    for _ in range(2):
        done = subprocess.run(
            command, cwd=tmp_path / "kit", capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout[-1500:]
        made.append((tmp_path / "kit" / "main.pdf").read_bytes())
    assert "Overfull \\hbox" not in done.stdout
    assert "Missing character" not in done.stdout
    assert made[0] == made[1]


def test_figures_of_one_system_come_from_its_runs(results: Results) -> None:
    frame = results.finished[["label"]].head(0)
    own = runs_behind("q2d2-hex 18.8 bit", frame, results)
    assert own == ["q2d2-hex 18.8 bit-0-18.8", "q2d2-hex 18.8 bit-1-18.8"]
    assert len(runs_behind("", frame.drop(columns="label"), results)) == 13
