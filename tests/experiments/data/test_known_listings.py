"""Large corpora are listed once: folders tell whether files came or went."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data import known_listings, prepare
from experiments.data.corpus import DataError

RATE = 16_000
CLIPS = 12


@pytest.fixture(params=["folder", "manifest", "filelist"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twelve files of six speakers that were written an hour ago, and count as many."""
    monkeypatch.setattr(known_listings, "LARGE", CLIPS)
    root = tmp_path / "corpus"
    lines = ["path,speaker,split"]
    for number in range(CLIPS):
        path = root / f"s{number // 2}" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * np.random.default_rng(number).standard_normal(8_000), RATE)
        lines.append(f"{path},s{number // 2},{('train', 'val', 'test')[number // 2 % 3]}")
    (root / "m.csv").write_text("\n".join(lines))
    (root / "list.txt").write_text("\n".join(line.partition(",")[0] for line in lines[1:]))
    age(root)
    kind = str(request.param)
    return f"{kind}:{root / {'folder': '', 'manifest': 'm.csv', 'filelist': 'list.txt'}[kind]}"


def age(root: Path) -> None:
    then = time.time() - 3600
    for path in (*root.rglob("*"), root):
        os.utime(path, (then, then))


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Specifications that were parsed, that is whose files were listed."""
    parsed: list[str] = []
    parse = prepare.__globals__["parse"]

    def counted(spec: str) -> object:
        parsed.append(spec)
        return parse(spec)

    monkeypatch.setitem(prepare.__globals__, "parse", counted)
    return parsed


def prepared(corpus: str, tmp_path: Path) -> data.Shards:
    return data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "cache", needed=data.SPLITS)


def test_what_is_prepared_is_not_listed_again(corpus: str, listings: list[str], tmp_path: Path) -> None:
    first = prepared(corpus, tmp_path)
    assert len(listings) == 1
    again = prepared(corpus, tmp_path)
    assert len(listings) == 1
    assert (again.path, again.content_hash) == (first.path, first.content_hash)
    again.path.rename(again.path.with_name("elsewhere"))
    assert prepared(corpus, tmp_path).content_hash == first.content_hash
    assert len(listings) == 2


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "list"])
def test_changes_are_noticed(change: str, corpus: str, listings: list[str], tmp_path: Path) -> None:
    first = prepared(corpus, tmp_path)
    root = tmp_path / "corpus"
    if change == "added":
        (root / "s0" / "new.wav").write_bytes((root / "s1" / "2.wav").read_bytes())
    elif change == "removed":
        (root / "s1" / "2.wav").unlink()
    elif change == "replaced":
        soundfile.write(root / "s1" / "2.wav", 0.1 * np.random.default_rng(99).standard_normal(9_000), RATE)
    else:
        for name in ("m.csv", "list.txt"):
            (root / name).write_text("\n".join((root / name).read_text().splitlines()[:-1]))
    kind = corpus.partition(":")[0]
    if change == "removed" and kind != "folder":
        with pytest.raises(DataError, match=r"2\.wav' is not a file"):
            prepared(corpus, tmp_path)
        return
    again = prepared(corpus, tmp_path)
    same = (change == "added" and kind != "folder") or (change == "list" and kind == "folder")
    assert (again.content_hash == first.content_hash) == same
    assert len(listings) == (1 if (change, kind) == ("list", "folder") else 2)  # no list is read there


def test_a_corpus_that_is_being_written_is_not_remembered(
    corpus: str, listings: list[str], tmp_path: Path
) -> None:
    os.utime(tmp_path / "corpus" / "s3")
    prepared(corpus, tmp_path)
    prepared(corpus, tmp_path)
    assert len(listings) == 2


def test_of_a_small_one_every_file_is_looked_at(
    corpus: str, listings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_listings, "LARGE", CLIPS + 1)
    prepared(corpus, tmp_path)
    assert not (tmp_path / "cache" / "listings").exists()
    prepared(corpus, tmp_path)
    assert len(listings) == 2
