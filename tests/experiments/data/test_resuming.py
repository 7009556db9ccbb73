"""Preparations that are stopped: what is finished stays, and the end is the same."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data import cache, parallel_decoding, writing
from experiments.data.cache import Index
from experiments.data.corpus import DataError

RATE = 16_000
CLIPS = 24


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Clips of 0.4 to 1 s of three splits in turn, one of them unreadable, one noted."""
    folder = tmp_path_factory.mktemp("corpus")
    random = np.random.default_rng(0)
    lines = ["path,speaker,split"]
    for number in range(CLIPS):
        noise = 0.05 * random.standard_normal((round((0.4 + 0.1 * (number % 7)) * RATE), 1 + (number == 3)))
        soundfile.write(folder / f"{number:02}.wav", noise, RATE)
        lines.append(f"{number:02}.wav,s{number},{('train', 'val', 'test')[number % 3]}")
    (folder / "05.wav").write_bytes(b"nothing")
    (folder / "m.csv").write_text("\n".join(lines))
    return f"manifest:{folder / 'm.csv'}"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SHARD_SAMPLES", 2 * RATE)  # some shards are finished, some open
    monkeypatch.setattr(writing, "JOURNAL_SECONDS", 0.0)


@pytest.fixture
def whole(corpus: str, small_shards: None, tmp_path: Path) -> data.Shards:
    return data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "whole")


def stop_after(corpus: str, root: Path, items: int) -> Path:
    """Stop a preparation as Ctrl-C does; the folder that it leaves."""

    def progress(stage: str, done: int, total: int) -> None:
        if done == items:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.prepare(corpus, sample_rate=RATE, cache=root, progress=progress)
    [left] = root.glob(".*.partial")
    return left


def contents(shards: data.Shards) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in shards.path.iterdir()}


@pytest.mark.parametrize("items", [1, 7, 13, CLIPS])
def test_it_goes_on_to_the_same_bytes(
    items: int, corpus: str, whole: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(corpus, tmp_path / "stopped", items)
    decoded: list[str] = []
    read = parallel_decoding._read

    def counted(source: parallel_decoding.Source, rate: int) -> object:
        decoded.append(source.name)
        return read(source, rate)

    monkeypatch.setattr(parallel_decoding, "_read", counted)
    again = data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "stopped")
    assert len(decoded) == CLIPS - items
    assert contents(again) == contents(whole)
    assert again.content_hash == whole.content_hash
    assert [name for name, status, _ in again.report] == ["03.wav", "05.wav"]
    assert Index.read(again.path).files["train"][0].bytes < 2 * 2 * RATE + 1
    assert len(Index.read(again.path).files["train"]) > 1
    assert not list((tmp_path / "stopped").glob(".*.partial*"))


def test_it_may_be_stopped_again_and_again(corpus: str, whole: data.Shards, tmp_path: Path) -> None:
    for items in (2, 3, 9, 20):
        stop_after(corpus, tmp_path / "stopped", items)
    again = data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "stopped")
    assert contents(again) == contents(whole)


def test_what_was_written_behind_the_journal_is_cut_off(
    corpus: str, whole: data.Shards, tmp_path: Path
) -> None:
    left = stop_after(corpus, tmp_path / "stopped", 10)
    for path in left.glob("*.i16"):
        if path.name.endswith("1.i16"):
            with path.open("ab") as file:
                file.write(b"\1" * 1000)
    with (left / writing.JOURNAL).open("ab") as file:
        file.write(b'{"done": 11, "cli')
    again = data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "stopped")
    assert contents(again) == contents(whole)


@pytest.mark.parametrize("damage", ["shorter", "missing", "journal"])
def test_what_does_not_fit_its_journal_is_made_again(
    damage: str, corpus: str, whole: data.Shards, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = stop_after(corpus, tmp_path / "stopped", 10)
    newest = max(left.glob("train-*.i16"))
    if damage == "shorter":
        newest.write_bytes(newest.read_bytes()[:100])
    elif damage == "missing":
        newest.unlink()
    else:
        (left / writing.JOURNAL).write_text('{"done": 3}\n')
    again = data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "stopped")
    assert "beginning again" in caplog.text
    assert contents(again) == contents(whole)


def test_a_full_disk_keeps_what_is_written(
    corpus: str, whole: data.Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = writing._Shard.write

    def full(shard: writing._Shard, audio: object) -> None:
        if shard.path.name == "train-0001.i16":
            raise OSError(28, "No space left on device")
        write(shard, audio)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(writing._Shard, "write", full)
        with pytest.raises(DataError, match=r"No space left on device.*make room"):
            data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "full")
    [left] = (tmp_path / "full").glob(".*.partial")
    assert (left / "train-0000.i16").is_file()
    again = data.prepare(corpus, sample_rate=RATE, cache=tmp_path / "full")
    assert contents(again) == contents(whole)


def test_a_corpus_that_changed_is_not_gone_on_with(corpus: str, small_shards: None, tmp_path: Path) -> None:
    left = stop_after(corpus, tmp_path / "stopped", 10)
    listed = Path(corpus.partition(":")[2])
    fewer = listed.with_name("fewer.csv")
    fewer.write_text("\n".join(listed.read_text().splitlines()[:-1]))
    shards = data.prepare(f"manifest:{fewer}", sample_rate=RATE, cache=tmp_path / "stopped")
    assert sum(len(shards.split(name)) for name in cache.SPLITS) == CLIPS - 2
    assert left.is_dir()  # of the other corpus


KILLED = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from experiments import data
    from experiments.data import cache, writing
    cache.SHARD_SAMPLES, writing.JOURNAL_SECONDS = 32_000, 0.0
    wait = lambda stage, done, total: time.sleep(60 if done == 11 else 0)
    data.prepare(sys.argv[1], sample_rate=16_000, cache=Path(sys.argv[2]), progress=wait)
""")


def test_a_kill_costs_no_finished_file(corpus: str, whole: data.Shards, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, corpus, str(tmp_path / "killed")]
    with subprocess.Popen(command) as process:
        deadline = time.monotonic() + 60
        journal = None
        while time.monotonic() < deadline and process.poll() is None:
            journal = next((tmp_path / "killed").glob(f".*.partial/{writing.JOURNAL}"), None)
            if journal and journal.read_bytes().count(b"\n") == 11:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    assert journal
    first: list[int] = []
    again = data.prepare(
        corpus, sample_rate=RATE, cache=tmp_path / "killed", progress=lambda _, done, __: first.append(done)
    )
    assert first[0] == 12
    assert contents(again) == contents(whole)
