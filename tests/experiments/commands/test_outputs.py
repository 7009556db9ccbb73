"""Outputs of commands: checked before any work without a trace, and saved elsewhere where they fail late."""

import errno
import os
import re
from pathlib import Path

import pytest

from experiments.commands import outputs
from experiments.commands.outputs import OutputError

as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")


def test_a_place_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    outputs.check_folder(tmp_path / "new" / "deep")
    outputs.check_file(tmp_path / "new" / "x.csv", suffixes=(".csv", ".parquet"))
    outputs.check_file(None)
    assert not list(tmp_path.iterdir())
    file = tmp_path / "old.csv"
    file.write_text("a")
    before = file.stat().st_mtime_ns
    outputs.check_file(file)
    assert (file.read_text(), file.stat().st_mtime_ns) == ("a", before)
    outputs.check_file(Path("/dev/stdout"))


def test_a_file_in_the_way_a_folder_and_names_that_are_too_long_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("missing")
    for folder, words in (
        ("file", "Not a directory; a file stands where a folder is needed"),
        ("file/below", "Not a directory; a file stands where a folder is needed"),
        ("n" * 300, "File name too long; give a shorter name"),
        ("nowhere/below", "a link to nothing"),
    ):
        with pytest.raises(OutputError, match=f"--output .*{words}"):
            outputs.check_folder(tmp_path / folder)
    with pytest.raises(OutputError, match=r"--runs .*loop: cannot write there: .*a link to nothing"):
        outputs.check_folder(tmp_path / "loop", "--runs")
    for file, words in (
        ("file/x.csv", "a file stands where a folder is needed"),
        ("", "it is a folder; give the name of a file"),
        ("n" * 300, "File name too long; give a shorter name"),
    ):
        with pytest.raises(OutputError, match=words):
            outputs.check_file(tmp_path / file, "--summary")
    with pytest.raises(OutputError, match=re.escape("x.txt: give a file that ends in .csv or .parquet")):
        outputs.check_file(tmp_path / "x.txt", suffixes=(".csv", ".parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop", "nowhere"]


@pytest.mark.parametrize("place", ["/proc/x", "/sys/x"])
def test_a_disk_that_takes_no_files_is_refused(place: str) -> None:
    """As root, too, whom permissions do not stop."""
    if not Path(place).parent.is_dir():
        pytest.skip("no such disk")
    with pytest.raises(OutputError, match=f"{place}: cannot write there"):
        outputs.check_folder(Path(place))
    with pytest.raises(OutputError, match="cannot write there"):
        outputs.check_file(Path(place))


@as_user
def test_permissions_are_looked_at(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied; change its permissions, or give another place"):
        outputs.check_folder(tmp_path / "new")
    tmp_path.chmod(0o700)


def test_what_cannot_be_saved_is_saved_elsewhere_and_said(tmp_path: Path) -> None:
    assert outputs.save(tmp_path / "new" / "a.txt", lambda path: path.write_text("scores")) == ""
    assert (tmp_path / "new" / "a.txt").read_text() == "scores"
    (tmp_path / "file").write_text("")
    problem = outputs.save(tmp_path / "file" / "a.txt", lambda path: path.write_text("scores"))
    place = re.search(r"It was written to (\S+) instead", problem)
    assert place
    assert Path(place[1]).read_text() == "scores"
    assert problem.startswith(f"cannot write {tmp_path / 'file' / 'a.txt'}: ")


def test_a_folder_that_cannot_be_saved_is_saved_elsewhere(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "a.txt").write_text("table")
    assert outputs.save_folder(source, tmp_path / "new" / "tables") == ""
    assert (tmp_path / "new" / "tables" / "deep" / "a.txt").read_text() == "table"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "deep").write_text("in the way")
    for target in (tmp_path / "other", tmp_path / ("x" * 300)):
        problem = outputs.save_folder(source, Path(target))
        place = re.search(r"It was written to (\S+) instead", problem)
        assert place
        assert (Path(place[1]) / "deep" / "a.txt").read_text() == "table"


def test_each_reason_has_a_remedy() -> None:
    error = OSError(errno.ENOSPC, "No space left on device", "scores.csv")
    assert outputs.is_explained(error)
    assert outputs.explanation(error) == (
        "scores.csv: No space left on device; make room on that disk, or give a place on another"
    )
    assert not outputs.is_explained(OSError("odd"))
    assert outputs.explanation(OSError("odd"), "x") == "x: odd"


@pytest.mark.parametrize(
    ("study", "name"),
    [("tiny", "report-tiny"), ("../../x", "report-_.._x"), ("/", "report-_"), ("...", "report-study")],
)
def test_a_name_of_a_study_leads_nowhere_else(study: str, name: str) -> None:
    assert outputs.named_after("report-", study) == Path(name)
    assert len(outputs.named_after("", "x" * 500, ".zip").name) < 255
