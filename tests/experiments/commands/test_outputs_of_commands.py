"""Outputs of the real commands: wrong ones are refused before any work, and no result is lost to one."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from typer.testing import CliRunner

from analysis import load
from experiments.cli import app
from experiments.commands import scoring, study_report
from experiments.commands.display.terminal import messages
from experiments.commands.outputs import OutputError
from experiments.execution.study_runner import Summary
from experiments.tracking.store import Store

Finished = tuple[Path, int, list[str]]


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with references, their reconstructions, a file and a folder in the way."""
    clip = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    for folder in ("ref", "dec"):
        (tmp_path / folder).mkdir()
        soundfile.write(tmp_path / folder / "u.wav", clip, 16_000)
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*arguments: str) -> str:
    """The message of a mistake that ends a command before it has done anything."""
    started = time.process_time()
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300"})
    assert result.exit_code == 2, result.output
    assert time.process_time() - started < 20
    return " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--output", "file/x.csv"], "--output file/x.csv: cannot write there"),
        (["--output", "folder.csv"], "folder.csv: Is a directory; it is a folder; give the name of a file"),
        (["--output", "scores.txt"], "scores.txt: give a file that ends in .csv or .parquet"),
        (["--summary", "file/x.csv"], "--summary file/x.csv: cannot write there"),
        (["--output", "s.csv", "--summary", "./s.csv"], "is also the file of --output"),
        (["--reference-cache", "file"], "--reference-cache file: cannot write there"),
        (["--metrics", ""], "--metrics: give at least one name"),
        (["--metrics", "STOI"], "did you mean 'stoi'?"),
        (["--bitrate=-5"], "'--bitrate': -5: give a number above 0"),
        (["--bitrate", "nan"], "'--bitrate': nan: give a number above 0"),
        (["nothing"], "nothing: no such folder"),
    ],
)
def test_evaluate_looks_before_it_scores(arguments: list[str], words: str, folders: Path) -> None:
    before = sorted(path.name for path in folders.iterdir())
    said = refused(
        "evaluate", "ref", "dec", *arguments, *(() if "--metrics" in arguments else ("--metrics", "stoi"))
    )
    assert words in said
    assert "utterances" not in said
    assert sorted(path.name for path in folders.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "quickstart", "--output", "file"], "--output file/quickstart: cannot write there"),
        (["run", "quickstart", "--runs", "file/runs"], "--runs file/runs: cannot write there"),
        (["run", "quickstart", "--executor", "slurm"], "'--executor'"),
        (["run", "quickstart", "--executor", "ray", "--run-gpus", "nan"], "'--run-gpus': nan"),
        (["search", "search-tiling", "--output", "file"], "--output file/search-tiling/search: cannot"),
        (["table", "x", "--output", "file/t.md"], "--output file/t.md: cannot write there"),
        (["table", "x", "--output", "tables/"], "'--output': 'tables/' names a folder"),
        (["table", "x", "--format", "word"], "'--format'"),
        (["table", "x", "--intervals", "box"], "'--intervals'"),
        (["table", "x", "--bitrate", "nan"], "'--bitrate': nan: give a number above 0"),
        (["table", "x", "--columns", "psq"], "unknown column 'psq'"),
        (["table", "x", "--published", "y"], "no published table 'y'"),
        (["figures", "x", "--output", "file"], "--output file: cannot write there"),
        (["figures", "x", "--formats", "pdf,bmp"], "'bmp': give some of pdf, svg, png, gif, mp4"),
        (["figures", "x", "--style", "slides"], "'--style'"),
        (
            ["figures", "x", "--only", "cost,costs"],
            "--only: 'costs' is no kind of figure; give some of effects",
        ),
        (["report", "x", "--only", ","], "--only: give at least one name, or leave the option out"),
        (["report", "x", "--output", "file"], "--output file: cannot write there"),
        (["paper", "x", "--output", "file/paper"], "--output file/paper: cannot write there"),
        (["export", "x", "--output", "folder.csv"], "it is a folder; give the name of a file"),
        (["power", "x", "--effect", "0"], "'--effect': 0: give a number above 0"),
        (["voronoi", "q2d2-hex", "7", "7", "--range", "foo"], "'--range'"),
        (["voronoi", "q2d2-hex", "7", "7", "--output", "out/"], "'out/' names a folder"),
        (
            ["voronoi", "q2d2-hex", "7", "7", "--output", "x.bmp"],
            "give a file that ends in .svg, .png or .pdf",
        ),
        (["voronoi", "q2d2-hex", "--levels", "7,x"], "'x' is not a number of levels"),
        (["voronoi", "q2d2-hex", "99999", "99999"], "have 9,999,800,001 cells; at most 4,096 can be drawn"),
        (["voronoi", "tilings", "--bits", "30"], "'--bits': 30: give a number of 2 or more, at most 12"),
        (["voronoi", "E7"], "unknown quantizer 'E7'; known: none, vq"),
    ],
)
def test_commands_look_before_they_work(arguments: list[str], words: str, folders: Path) -> None:
    before = sorted(path.name for path in folders.iterdir())
    assert words in refused(*arguments)
    assert sorted(path.name for path in folders.iterdir()) == before


def test_a_voronoi_plot_goes_to_the_file_that_was_named(folders: Path) -> None:
    result = CliRunner().invoke(app, ["voronoi", "tilings", "--bits", "5", "--output", "new/tilings.png"])
    assert result.exit_code == 0, result.output
    assert (folders / "new" / "tilings.png").read_bytes().startswith(b"\x89PNG")
    assert result.output == "wrote new/tilings.png\n"


def test_scores_that_cannot_be_written_at_the_end_are_written_elsewhere(folders: Path) -> None:
    scores = scoring.Scores(
        every=pd.DataFrame({"utterance": ["u"], "value": [0.5]}),
        summary=pd.DataFrame({"system": ["dec"], "worst": [("u",)], "scored": [1]}),
    )
    with pytest.raises(OutputError, match=r"file/a\.csv") as raised:
        scoring.write(scores, Path("file/a.csv"), Path("file/b.csv"))
    places = re.findall(r"written to (\S+) instead", str(raised.value))
    assert [pd.read_csv(place).shape for place in places] == [(1, 2), (1, 3)]
    scoring.write(scores, Path("new/a.parquet"), None)
    assert pd.read_parquet("new/a.parquet")["value"].tolist() == [0.5]


@pytest.mark.slow
def test_a_table_is_in_the_store_before_its_folder_is_written(finished: Finished, tmp_path: Path) -> None:
    """The folder could be written when the study began, and cannot any more."""
    folder, _, _ = finished
    uri = f"sqlite:///{folder}/mlflow.db"
    store = Store(uri, "tiny")
    parent = load("tiny", uri).parent_id
    assert parent is not None
    (tmp_path / "tiny").write_text("in the way")
    summary = Summary([], parent, folder / "runs", outcomes={"x": "finished"})
    problems = study_report.write(
        summary,
        store,
        tmp_path / "tiny",
        question="",
        rate_mismatch=False,
        figures=False,
        console=messages(),
    )
    (problem,) = problems
    place = re.search(r"written to (\S+) instead", problem)
    assert place
    assert "hex [/edge] with a long name" in (Path(place[1]) / "comparison.csv").read_text()
    assert any(
        entry.path == "tables/comparison.md" for entry in store.client.list_artifacts(parent, "tables")
    )


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_study_ends_well_where_the_output_is_not_utf_8(
    finished: Finished, encoding: str, tmp_path: Path
) -> None:
    folder, _, _ = finished
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "experiments.cli",
            "run",
            "tiny.yaml",
            "--no-figures",
            "--output",
            str(tmp_path),
        ],
        cwd=folder,
        capture_output=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert "hex [/edge] with a long name" in done.stdout.decode(encoding)
    assert "2 runs: 2 reused" in done.stderr.decode(encoding)
    assert "±" in (tmp_path / "tiny" / "tables" / "comparison.md").read_text(encoding="utf-8")
