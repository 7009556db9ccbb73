"""Corpora by Hugging Face `datasets`: folders on this disk that the library streams, and what it lacks."""

import csv
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data.corpus import DataError
from experiments.data.sources.hugging_face import DatasetShard
from experiments.data.sources.registry import parse
from experiments.data.streaming import StreamedCrops

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

RATE = 16_000


def clip(number: int) -> np.ndarray:
    noise = 0.1 * np.random.default_rng(number).standard_normal(RATE // 2)
    return noise - noise.mean()


def audio_folder(root: Path, splits: dict[str, list[str]]) -> Path:
    """A folder as `datasets` calls audiofolder: a file for each speaker of each split, and metadata.csv."""
    number = 0
    for split, speakers in splits.items():
        (root / split).mkdir(parents=True)
        rows = [("file_name", "speaker_id", "text")]
        for speaker in speakers:
            soundfile.write(root / split / f"{number}.flac", clip(number), RATE)
            rows.append((f"{number}.flac", speaker, "words"))
            number += 1
        with (root / split / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return root


def parquet_files(root: Path, files: int, clips: int) -> Path:
    """Parquet files of the training split alone, with the bytes of the audio within, as on the Hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root.mkdir()
    for file in range(files):
        rows = []
        for number in range(file * clips, (file + 1) * clips):
            soundfile.write(root / "x.flac", clip(number), RATE)
            audio = {"bytes": (root / "x.flac").read_bytes(), "path": f"{number}.flac"}
            rows.append({"audio": audio, "client_id": f"client{number // 2}"})
        (root / "x.flac").unlink()
        pq.write_table(pa.Table.from_pylist(rows), root / f"train-{file:05}-of-{files:05}.parquet")
    return root


@pytest.fixture(autouse=True)
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    datasets = pytest.importorskip("datasets", reason="codecbench[datasets] is not installed")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "hf")
    yield
    gc.collect()  # the library leaves open files to it


def crops(shards: data.Shards, batch: int = 4) -> StreamedCrops:
    made = shards.training().crops(samples=RATE // 4, batch_size=batch, seed=0)
    assert isinstance(made, StreamedCrops)
    return made


def test_named_splits_are_the_splits_and_training_is_streamed(tmp_path: Path) -> None:
    root = audio_folder(
        tmp_path / "af", {"train": list("aabbc"), "validation": ["d", "e"], "test": ["f", "c", "d"]}
    )
    shards = data.prepare(f"datasets:{root}", sample_rate=RATE, cache=tmp_path / "cache")
    assert shards.name == "datasets:af"
    assert list(shards.split("validation").speakers) == ["d", "e"]
    assert list(shards.split("test").speakers) == ["f", "c"]
    assert ("test-00000/2", "its speaker d is in validation") in shards.skipped
    made = crops(shards)
    heard = {name for step in range(4) for name in (made.batch(step), made.describe(step))[1].split(", ")}
    made.close()
    assert heard == {f"train-00000/{number}" for number in range(4)}  # c is in test
    stored = shards.split("validation").clip(0, normalise=False)
    np.testing.assert_allclose(stored, clip(5), atol=1e-4)


def test_files_of_train_alone_are_dealt_out_and_a_cursor_leads_back(tmp_path: Path) -> None:
    root = parquet_files(tmp_path / "pq", files=4, clips=3)
    shards = data.prepare(f"datasets:{root}", sample_rate=RATE, cache=tmp_path / "cache")
    held_out = {*shards.split("validation").speakers, *shards.split("test").speakers}
    corpus = parse(f"datasets:{root}")
    trains = corpus.trains(held_out)
    speakers = {s.speaker for shard in corpus.shards["train"] for s in shard.samples("train") if trains(s)}
    assert speakers | held_out == {f"client{number}" for number in range(6)}
    assert speakers
    assert not speakers & held_out
    made, again = crops(shards, 2), crops(shards, 2)
    for step in range(5):
        made.batch(step)
    again.seek(made.cursor())
    assert np.array_equal(again.batch(5), made.batch(5))
    again.close()
    made.close()


def test_one_file_holds_all_splits_by_speaker(tmp_path: Path) -> None:
    root = audio_folder(tmp_path / "af", {"train": [f"s{n}" for n in range(40)] * 2})
    shards = data.prepare(f"datasets:{root}", sample_rate=RATE, cache=tmp_path / "cache")
    held_out = {name: set(shards.split(name).speakers) for name in ("validation", "test")}
    assert held_out["validation"]
    assert held_out["test"]
    assert not held_out["validation"] & held_out["test"]
    assert all(len(shards.split(name)) == 2 * len(who) for name, who in held_out.items())


def test_the_hash_knows_the_files(tmp_path: Path) -> None:
    splits = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    one, two = (audio_folder(tmp_path / name, splits) for name in ("one", "two"))
    hashes = [
        data.prepare(f"datasets:{root}", sample_rate=RATE, cache=tmp_path / "cache").content_hash
        for root in (one, two)
    ]
    assert hashes[0] == hashes[1]  # not where it lies
    soundfile.write(two / "train" / "0.flac", clip(99)[:-100], RATE)
    changed = data.prepare(f"datasets:{two}", sample_rate=RATE, cache=tmp_path / "cache")
    assert changed.content_hash != hashes[0]


def test_a_file_that_is_no_audio_is_noted(tmp_path: Path) -> None:
    root = audio_folder(tmp_path / "af", {"train": ["a"], "validation": ["b", "c"], "test": ["d"]})
    (root / "validation" / "1.flac").write_bytes(b"nothing")
    shards = data.prepare(f"datasets:{root}", sample_rate=RATE, cache=tmp_path / "cache")
    assert [name for name, _ in shards.skipped] == ["validation-00000/0"]


def test_a_folder_without_audio_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no column of audio in"):
        parse(f"datasets:{tmp_path / 'texts'}")


def test_rows_of_tar_shards_tell_the_speaker_in_their_json() -> None:
    shard = DatasetShard("train-00000", "", "train", ("mp3",), None, 0)
    row = {"mp3": {"path": "a.mp3", "bytes": b"x"}, "json": {"speaker": "DE_B00000_S00000"}}
    sample = shard._sample("n", row)
    assert (sample.place.speaker, sample.place.split, sample.audio) == ("DE_B00000_S00000", "train", b"x")
    assert shard._sample("n", {"mp3": None}).why == "no audio in it"


def test_without_a_network_the_message_says_what_to_do(tmp_path: Path) -> None:
    code = "from experiments.data.sources.registry import parse; parse('datasets:owner/name:de')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)},
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "DataError: datasets: cannot read owner/name:de" in last
    assert "hf download NAME --repo-type dataset --local-dir FOLDER" in last
