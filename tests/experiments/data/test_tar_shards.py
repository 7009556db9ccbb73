"""Corpora of WebDataset tar shards: which shards, what is held out, and training batches as a stream."""

import io
import json
import tarfile
import threading
import tracemalloc
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from codec.model import Codec
from experiments import data
from experiments.data import streaming as tar_stream
from experiments.data.corpus import DataError
from experiments.data.sources import tar_samples
from experiments.data.sources import tar_shards as tar_corpus
from experiments.data.sources.registry import parse
from experiments.data.streaming import StreamedCrops, joined
from experiments.studies import runs, study
from experiments.training import distributed as processes
from experiments.training.checkpoint import Checkpoint
from experiments.training.loop import train
from experiments.training.observer import Interrupted, Observer

pytest.importorskip("webdataset")

RATE = 16_000
SAMPLES = 4_000


def encoded(number: int, seconds: float, kind: str = "flac") -> bytes:
    """Noise that no other number gives, as a file."""
    noise = 0.1 * np.random.default_rng(number).standard_normal(round(seconds * RATE))
    file = io.BytesIO()
    soundfile.write(file, noise, RATE, format=kind.upper())
    return file.getvalue()


def write_shard(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def shard(path: Path, first: int, clips: int = 6, kind: str = "flac") -> Path:
    members = {}
    for number in range(first, first + clips):
        members[f"clip{number}.{kind}"] = encoded(number, 0.4 + 0.3 * (number % 4), kind)
        members[f"clip{number}.json"] = json.dumps({"speaker": f"s{number % 3}"}).encode()
    return write_shard(path, members)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    for number, kind in enumerate(("flac", "wav", "ogg", "mp3", "flac")):
        shard(root / f"train-{number:03}.tar", 100 * number, kind=kind)
    shard(root / "dev" / "dev-000.tar", 1_000, clips=2)
    shard(root / "test-000.tar", 2_000, clips=2)
    return root


def specification(root: Path | str) -> str:
    train, validation = f"{root}/train-{{000..004}}.tar", f"{root}/dev/dev-000.tar"
    return f"webdataset:train={train},validation={validation},test={root}/test-000.tar"


def streamed(root: Path, seed: int = 0, rank: int = 0, world_size: int = 1, batch: int = 8) -> StreamedCrops:
    crops = (
        data.prepare(specification(root), sample_rate=RATE)
        .training()
        .crops(samples=SAMPLES, batch_size=batch, seed=seed, rank=rank, world_size=world_size)
    )
    assert isinstance(crops, StreamedCrops)
    return crops


def test_held_out_shards_are_prepared_and_training_ones_only_listed(folder: Path) -> None:
    shards = data.prepare(specification(folder), sample_rate=RATE)
    assert list(shards.split("validation").names) == ["dev-000.tar/clip1000", "dev-000.tar/clip1001"]
    assert list(shards.split("test").speakers) == ["s2", "s0"]
    assert shards.name == "webdataset:train"
    assert "train streamed from 5 shards" in shards.summary()
    with pytest.raises(DataError, match="streamed"):
        shards.split("train")


def test_the_hash_knows_the_training_shards(folder: Path, tmp_path: Path) -> None:
    for name in ("train-000.tar", "train-001.tar", "test-000.tar", "dev-000.tar"):
        source = folder / "dev" / name if name.startswith("dev") else folder / name
        (tmp_path / name).write_bytes(source.read_bytes())
    text = (
        f"webdataset:train={tmp_path}/train-*.tar,validation={tmp_path}/dev-*.tar,test={tmp_path}/test-*.tar"
    )
    before = data.prepare(text, sample_rate=RATE).content_hash
    assert data.prepare(text, sample_rate=RATE).content_hash == before
    shard(tmp_path / "train-001.tar", 100, clips=7)
    assert data.prepare(text, sample_rate=RATE).content_hash != before


def test_with_one_pattern_two_shards_are_held_out(folder: Path) -> None:
    shards = parse(f"webdataset:{folder}/train-*.tar").shards
    names = {split: [member.name for member in members] for split, members in shards.items()}
    assert [len(names[split]) for split in ("train", "validation", "test")] == [3, 1, 1]
    assert len({name for members in names.values() for name in members}) == 5
    with pytest.raises(DataError, match="three or more"):
        parse(f"webdataset:{folder}/train-00{{0,1}}.tar")


def test_batches_depend_on_seed_and_step_alone(folder: Path) -> None:
    first, again, other = streamed(folder), streamed(folder), streamed(folder, seed=1)
    wanted = [first.batch(step) for step in range(30)]  # more than an epoch
    assert wanted[0].shape == (8, SAMPLES)
    assert len({row.tobytes() for batch in wanted[:2] for row in batch}) == 16
    assert np.array_equal(again.batch(29), wanted[29])  # reads up to it
    assert np.array_equal(again.batch(3), wanted[3])  # starts anew
    assert not np.array_equal(other.batch(0), wanted[0])


def test_a_cursor_leads_to_the_same_place(folder: Path) -> None:
    crops = streamed(folder)
    for step in (0, 1, 9, 31):  # blocks end in between
        crops.batch(step)
        saved, step = json.loads(json.dumps(crops.cursor())), step + 1
        expected = crops.batch(step)
        resumed = streamed(folder)
        resumed.seek(saved)
        assert np.array_equal(resumed.batch(step), expected), step
        resumed.close()
    resumed.seek({})
    assert np.array_equal(resumed.lanes[0]._start, (0, 0, 0, 0, 0))


def test_ranks_share_the_batch_and_no_shard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_stream, "BLOCK", 4)  # else a block goes through several epochs of so few clips
    whole = streamed(folder)  # eight rows in four lanes
    ranks = [streamed(folder, rank=rank, world_size=2) for rank in range(2)]
    read: list[set[str]] = [set(), set()]
    for step in range(2):
        batch = whole.batch(step)
        for rank, crops in enumerate(ranks):
            assert np.array_equal(crops.batch(step), batch[rank::2])
            read[rank] |= {name.split("/")[0] for name in crops.describe(step).split(", ")}
    assert read[0]
    assert read[1]
    assert not read[0] & read[1]
    assert joined([crops.cursor() for crops in ranks]) == whole.cursor()
    with pytest.raises(DataError, match="4 lanes, which 3 processes"):
        streamed(folder, world_size=3)


class Stopping(Observer):
    """Asks to stop after `steps` steps; remembers how many clips were left out."""

    def __init__(self, steps: int = 10**9) -> None:
        self.done, self.steps, self.skipped = 0, steps, 0.0

    def progress(self, step: int, steps: int, text: str) -> None:
        self.done = step

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.skipped = values.get("train/skipped_clips", self.skipped)

    def should_stop(self) -> bool:
        return self.done >= self.steps


def test_a_training_on_shards_goes_on_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    broken = write_shard(tmp_path / "train-9.tar", {"a.flac": b"no audio", "b.flac": encoded(9, 1.0)})
    text = specification(folder).replace("train=", f"train={{{broken},").replace(".tar,val", ".tar},val")
    shards = data.prepare(text, sample_rate=RATE)
    options = "{steps: 6, batch_size: 6, crop_seconds: 0.2, warmup_steps: 1, checkpoint_every: 4}"
    asked = study.load("quickstart", ["quantizers=[fsq]", f"train={options}", "backbone=mdct-tiny"])
    identity = runs.CorpusIdentity(
        spec=text, name=shards.name, content_hash=shards.content_hash, synthetic=False
    )
    run = runs.expand(asked, identity)[0]

    def sitting(folder: str, watcher: Stopping) -> Codec:
        codec = run.codec()
        train(
            codec,
            run.train,
            train_split=shards.training(),
            validation_split=shards.split("validation"),
            seed=run.seed,
            fabric=processes.single(torch.device("cpu")),
            checkpoint=Checkpoint(tmp_path / folder / "state.safetensors", run.training_identity),
            observers=[watcher],
        )
        return codec

    watcher = Stopping()
    whole = sitting("whole", watcher)
    assert watcher.skipped >= 1
    with pytest.raises(Interrupted):
        sitting("parts", Stopping(3))
    parts = sitting("parts", Stopping())
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


def test_every_clip_of_an_epoch_is_heard_in_proportion(tmp_path: Path) -> None:
    """0.2 s crops of a clip of 0.4 s and one of 1 s: two and five."""
    write_shard(tmp_path / "a.tar", {"short.wav": encoded(1, 0.4, "wav"), "long.wav": encoded(2, 1.0, "wav")})
    split = data.TarSplit([tar_corpus.Shard(str(tmp_path / "a.tar"), "")], RATE)
    crops = split.crops(samples=RATE // 5, batch_size=1, seed=0)
    epochs = 10  # of seven crops, which is more than one block
    heard = []
    for step in range(7 * epochs):
        crops.batch(step)
        heard.append(crops.describe(step))
    assert 0.2 * len(heard) < heard.count("a.tar/short") < 0.4 * len(heard)
    assert len(heard) > tar_stream.BLOCK


def test_what_cannot_be_used_is_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = encoded(1, 1.0)
    write_shard(
        tmp_path / "train-0.tar",
        {
            "a.flac": b"no audio at all",
            "b.xyz": b"words",
            "transcripts.txt": b"words",
            "c.flac": good,
            "c.json": b'{"split": "test"}',
            "d.flac": good,
            "d.json": b"{",
            "e.flac": good,
            "f.wav": b"",
        },
    )
    whole = shard(tmp_path / "whole.tar", 0).read_bytes()
    (tmp_path / "train-1.tar").write_bytes(whole[: len(whole) // 2 + 100])
    split = data.TarSplit(
        [tar_corpus.Shard(str(tmp_path / f"train-{number}.tar"), "") for number in range(2)], RATE
    )
    crops = split.crops(samples=SAMPLES, batch_size=2, seed=0)
    heard = {name for step in range(20) for name in (crops.batch(step), crops.describe(step))[1].split(", ")}
    assert "train-0.tar/e" in heard
    assert any(name.startswith("train-1.tar/") for name in heard)
    for text in (
        "train-0.tar/a: not readable as audio",
        "train-0.tar/b: no audio in it",
        "train-0.tar/c: its json says split 'test'",
        "train-0.tar/d: its json cannot be read",
        "train-0.tar/f: empty file",
        "train-1.tar: the shard is damaged from byte 64000 on; 7780 bytes not read (unexpected end of data)",
    ):
        assert text in caplog.text
    assert "transcripts" not in caplog.text  # texts lie beside the audio of published corpora
    assert crops.skipped >= 6
    resumed = split.crops(samples=SAMPLES, batch_size=2, seed=0)
    resumed.seek(crops.cursor())
    assert np.array_equal(resumed.batch(20), crops.batch(20))
    assert resumed.skipped == crops.skipped


def test_shards_without_audio_end_with_a_message(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.tar", {"b.txt": b"words"})
    split = data.TarSplit([tar_corpus.Shard(str(tmp_path / "a.tar"), "")], RATE)
    with pytest.raises(DataError, match=r"no usable audio in 1 shard\(s\) \(a.tar"):
        split.crops(samples=SAMPLES, batch_size=1, seed=0).batch(0)


def test_memory_does_not_grow_with_the_shard(tmp_path: Path) -> None:
    def peak(clips: int) -> int:
        path = shard(tmp_path / f"{clips}.tar", 0, clips=clips, kind="wav")
        crops = data.TarSplit([tar_corpus.Shard(str(path), "")], RATE).crops(
            samples=SAMPLES, batch_size=4, seed=0
        )
        tracemalloc.start()
        for step in range(60):
            crops.batch(step)
        crops.close()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(10)  # imports
    assert peak(200) < 1.5 * peak(50)


@pytest.fixture
def server(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_address[1]}"
        listening.shutdown()
        thread.join()


def test_shards_of_a_web_server_are_the_same(folder: Path, server: str) -> None:
    if not any((Path(part) / "curl").exists() for part in ("/usr/bin", "/bin", "/usr/local/bin")):
        pytest.skip("webdataset reads URLs by curl, which is not installed")
    shards = data.prepare(specification(server), sample_rate=RATE)
    local = streamed(folder)
    remote = shards.training().crops(samples=SAMPLES, batch_size=8, seed=0)
    assert np.array_equal(remote.batch(0), local.batch(0))
    with pytest.raises(DataError, match=r"cannot read .*gone.tar: File not found"):
        parse(f"webdataset:{server}/gone.tar")


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("", "lacks its shards"),
        ("train=a.tar,test=b.tar", "must name each split once"),
        ("train=a.tar,train=b.tar,validation=c.tar,test=d.tar", "must name each split once"),
        ("x,train=a.tar", "lacks its shards"),
        ("nowhere/*.tar", "no such shard"),
        ("pipe:cat a.tar", "known are files"),
        ("ftp://host/a.tar", "known are files"),
        ("https://host/*.tar", "cannot be listed"),
        ("http://127.0.0.1:9/{0..3}.tar", "cannot read http://127.0.0.1:9/0.tar: .*refused"),
        ("a{.tar", "unbalanced"),
    ],
)
def test_wrong_specifications(rest: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse(f"webdataset:{rest}")


def test_a_shard_in_two_splits_is_an_error(folder: Path) -> None:
    one = f"{folder}/test-000.tar"
    with pytest.raises(DataError, match="is in train and in validation"):
        parse(f"webdataset:train={one},validation={one},test={folder}/train-000.tar")


# ---- keys that several audio files share, and damage -----------------------------------------------------


def samples(path: Path, split: str = "train") -> list[tuple[str, str, str]]:
    """(name, speaker, "audio" or why there is none) of each sample."""
    found = tar_samples.samples_of(tar_samples.Shard(str(path), ""), split)
    return [(each.name, each.speaker, "audio" if each.audio is not None else each.why) for each in found]


def test_names_with_dots_are_clips_of_their_own(tmp_path: Path) -> None:
    sound = encoded(1, 0.4, "wav")
    path = write_shard(
        tmp_path / "a.tar",
        {
            **{f"spk0.u{number}.wav": sound for number in range(3)},
            "spk0.u1.json": b'{"speaker": "of u1"}',
            "spk0.json": b'{"speaker": "of all"}',
            "dir.d/b.noisy.WAV": sound,
            "dir.d/b.clean.flac": sound,
            "c.wav": sound,
            "c.flac": sound,
            "d.first.wav": sound,
            "d.first.json": b'{"speaker": "d"}',
            "e.wav": sound,
            "e.m4a": b"x",
            "f.M4A": b"x",
            "g.wav": sound,
            "g.txt": b"words",
        },
    )
    foreign = ".m4a cannot be read: convert it to FLAC"
    assert samples(path) == [
        ("a.tar/spk0.u0.wav", "of all", "audio"),
        ("a.tar/spk0.u1.wav", "of u1", "audio"),
        ("a.tar/spk0.u2.wav", "of all", "audio"),
        ("a.tar/dir.d/b.noisy.wav", "", "audio"),
        ("a.tar/dir.d/b.clean.flac", "", "audio"),
        ("a.tar/c.wav", "", "audio"),
        ("a.tar/c.flac", "", "audio"),
        ("a.tar/d", "d", "audio"),
        ("a.tar/e", "", "audio"),
        ("a.tar/e.m4a", "", foreign),
        ("a.tar/f", "", foreign),
        ("a.tar/g", "", "audio"),
    ]


def test_all_clips_of_dotted_shards_are_prepared_and_streamed(tmp_path: Path) -> None:
    for number in range(3):
        members = {f"spk{number}.u{take}.wav": encoded(10 * number + take, 0.5, "wav") for take in range(6)}
        write_shard(tmp_path / f"n{number}.tar", members)
    shards = data.prepare(f"webdataset:{tmp_path}/n{{0..2}}.tar", sample_rate=RATE, cache=tmp_path / "cache")
    assert [len(shards.split(name)) for name in ("validation", "test")] == [6, 6]
    assert not shards.skipped
    crops = shards.training().crops(samples=SAMPLES, batch_size=6, seed=0)
    heard = {name for step in range(30) for name in (crops.batch(step), crops.describe(step))[1].split(", ")}
    assert len(heard) == 6


def test_a_name_that_comes_twice_is_used_once(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.wav", "a.wav", "b.wav"):
            content = encoded(1, 0.4, "wav")
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert samples(path) == [
        ("a.tar/a.wav", "", "again under the same name, the first is used"),
        ("a.tar/a", "", "audio"),
        ("a.tar/b", "", "audio"),
    ]


@pytest.fixture
def four(tmp_path: Path) -> Path:
    return write_shard(tmp_path / "a.tar", {f"{name}.wav": encoded(1, 0.4, "wav") for name in "abcd"})


def test_an_ordinary_shard_has_nothing_to_report(four: Path) -> None:
    whole = [(f"a.tar/{name}", "", "audio") for name in "abcd"]
    assert samples(four) == whole
    content = four.read_bytes()
    end = content.rfind(b"d.wav") + 512 + 13_312
    assert not content[end:].strip(b"\0")
    four.write_bytes(content[: end + 1_024])  # two empty blocks, and no more
    assert samples(four) == whole
    with tarfile.open(four.with_suffix(".tar.gz"), "w:gz") as tar:
        for name in "abcd":
            entry = tarfile.TarInfo(f"{name}.wav")
            entry.size = 1_000
            tar.addfile(entry, io.BytesIO(bytes(1_000)))
    assert [what for _, _, what in samples(four.with_suffix(".tar.gz"))] == ["audio"] * 4


def test_a_damaged_header_in_the_middle_says_where_and_how_much(four: Path) -> None:
    content = bytearray(four.read_bytes())
    at = content.find(b"c.wav")
    content[at : at + 100] = b"\xff" * 100
    four.write_bytes(content)
    assert samples(four) == [
        ("a.tar/a", "", "audio"),
        ("a.tar/b", "", "audio"),
        (
            "a.tar",
            "",
            f"the shard is damaged from byte {at} on; {len(content) - at} bytes not read (bad checksum)",
        ),
    ]


def test_a_cut_shard_keeps_what_came_before(four: Path) -> None:
    content = four.read_bytes()
    at = content.find(b"d.wav")
    before = [(f"a.tar/{name}", "", "audio") for name in "abc"]
    four.write_bytes(content[: at + 5_000])
    assert samples(four) == [
        *before,
        (
            "a.tar",
            "",
            f"the shard is damaged from byte {at} on; 5000 bytes not read (unexpected end of data)",
        ),
    ]
    four.write_bytes(content[: at + 100])
    assert samples(four)[:-1] == before
    assert f"damaged from byte {at} on; 100 bytes not read" in samples(four)[-1][2]
    four.write_bytes(content[:at])
    assert samples(four) == [
        *before,
        ("a.tar", "", f"the shard is cut short at byte {at}: it lacks its end mark"),
    ]


def test_bytes_behind_the_end_mark_are_reported(four: Path) -> None:
    content = four.read_bytes()
    four.write_bytes(content + content)  # cat a.tar a.tar > a.tar
    *clips, (name, _, why) = samples(four)
    assert len(clips) == 4
    assert name == "a.tar"
    end = content.rfind(b"d.wav") + 512 + 13_312
    assert (
        why == f"the shard is read up to its end mark at byte {end}; {2 * len(content) - end} bytes are left"
    )


def test_a_broken_compressed_shard_is_used_up_to_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for number in range(6):
            content = encoded(number, 1.0, "wav")
            entry = tarfile.TarInfo(f"{number}.wav")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    *clips, (_, _, why) = samples(path)
    assert 1 <= len(clips) < 6
    assert why.startswith("the shard is damaged from byte ")
    for content in (b"", b"not a tar" * 1_000, b"\x1f\x8b\x08 and no gzip" * 100):
        path.write_bytes(content)
        [(_, _, why)] = samples(path)
        assert why.startswith("the shard is "), why


def test_shards_of_before_give_the_same_clips_in_the_same_order(folder: Path) -> None:
    """webdataset's own grouping, of which this reader keeps the order: cursors of trainings name places."""
    from webdataset.tariterators import group_by_keys, tar_file_expander

    for path in sorted(folder.rglob("*.tar")):
        with path.open("rb") as stream:
            groups = list(group_by_keys(tar_file_expander([{"url": "", "stream": stream}])))
        found = list(tar_samples.samples_of(tar_samples.Shard(str(path), ""), "train"))
        assert [sample.name for sample in found] == [f"{path.name}/{group['__key__']}" for group in groups]
        for sample, group in zip(found, groups, strict=True):
            assert sample.audio in group.values()


def test_the_identity_of_the_training_shards_is_pinned(folder: Path, tmp_path: Path) -> None:
    """A change here gives every study on tar shards other run hashes."""
    for name in ("train-0.tar", "train-1.tar", "dev.tar", "test.tar"):
        write_shard(tmp_path / name, {"a.txt": b"x"})
    patterns = f"train={tmp_path}/train-{{0,1}}.tar,validation={tmp_path}/dev.tar,test={tmp_path}/test.tar"
    assert parse(f"webdataset:{patterns}").training_fingerprint == (
        "111a735298f47998e91c596a02bd926760e6e1935eefbd192fe363033bd85b2e"
    )
