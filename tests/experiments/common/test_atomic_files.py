import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.common.atomic_files import partial_name, remove_stale, replacing, write_text


def test_the_file_that_was_there_stays_under_another_name(tmp_path: Path) -> None:
    target, before = tmp_path / "state", tmp_path / "state.previous"
    for text in ("one", "two", "three"):
        with replacing(target, before) as partial:
            partial.write_text(text)
    assert (target.read_text(), before.read_text()) == ("three", "two")
    target.unlink()  # damaged, say: what is before it is not lost
    with replacing(target, before) as partial:
        partial.write_text("four")
    assert (target.read_text(), before.read_text()) == ("four", "two")
    assert len(list(tmp_path.iterdir())) == 2


def test_it_stays_without_hard_links_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    target, before = tmp_path / "state", tmp_path / "state.previous"
    for text in ("one", "two"):
        with replacing(target, before) as partial:
            partial.write_text(text)
    assert (target.read_text(), before.read_text()) == ("two", "one")


def test_an_error_leaves_everything_as_it_was(tmp_path: Path) -> None:
    target, before = tmp_path / "state", tmp_path / "state.previous"
    write_text(target, "one")
    with pytest.raises(RuntimeError), replacing(target, before) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert target.read_text() == "one"


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    gone = ended.pid
    mine = partial_name("state.safetensors")
    stale = [f".state.safetensors.{gone}.partial", f".state.safetensors.{gone}-0123abcd.partial"]
    others = ["codec.safetensors", ".hidden.partial", f"state.{gone}.partial.txt", mine]
    for name in (*stale, *others):
        (tmp_path / name).touch()
    folder = tmp_path / f".codec.safetensors.{gone}-89abcdef.partial"
    folder.mkdir()
    (folder / "codec.safetensors").touch()
    remove_stale(tmp_path, older_than=3600)  # of other machines, perhaps
    assert len(list(tmp_path.iterdir())) == len(stale) + len(others) + 1
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)
    remove_stale(tmp_path / "missing")
