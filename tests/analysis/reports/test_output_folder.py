"""Folders of reports and paper kits: only what an earlier one wrote is deleted."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.reports.output_folder import OutputError, prepare_output
from analysis.tables.latex import MOST_ROWS, frame_latex


def test_files_of_the_user_are_never_deleted(tmp_path: Path) -> None:
    recording = tmp_path / "audio" / "recording.wav"
    recording.parent.mkdir()
    recording.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"audio holds files .* choose another folder with --output"):
        prepare_output(tmp_path, "report", ("figures", "audio"))
    assert recording.read_bytes() == b"mine"
    assert not (tmp_path / "figures").exists()


def test_what_an_earlier_report_left_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()  # empty: nothing can be lost
    prepare_output(tmp_path, "report", ("figures", "audio"))
    (tmp_path / "figures" / "old.png").touch()
    (tmp_path / "notes.txt").write_text("mine")
    prepare_output(tmp_path, "report", ("figures", "audio"))
    assert not list((tmp_path / "figures").iterdir())
    assert (tmp_path / "notes.txt").exists()
    prepare_output(tmp_path, "paper", ("figures", "tables"))  # a kit beside the report
    prepare_output(tmp_path, "report", ("figures", "audio"))


def test_a_damaged_marker_counts_as_none(tmp_path: Path) -> None:
    prepare_output(tmp_path, "report", ("figures",))
    (tmp_path / ".codecbench.json").write_text("{")
    (tmp_path / "figures" / "a.png").touch()
    with pytest.raises(OutputError):
        prepare_output(tmp_path, "report", ("figures",))


def test_a_long_table_breaks_over_pages() -> None:
    frame = pd.DataFrame({"metric": ["PESQ"] * (MOST_ROWS + 1), "first": "a_b", "p": "0.01"})
    text = frame_latex(frame, "differences", "Paired differences")
    assert "\\begin{longtable}{lll}" in text
    assert text.count("a\\_b") == MOST_ROWS + 1
    assert text.count("metric & first & p") == 2  # again on each page
    assert "longtable" not in frame_latex(frame.head(MOST_ROWS), "differences", "Paired differences")
