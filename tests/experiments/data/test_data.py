import hashlib
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.transforms import Resample

from experiments import data
from experiments.commands.progress import progress_bar
from experiments.data import cache as shards
from experiments.data.cache import CacheError, Index
from experiments.data.corpus import DataError
from experiments.data.signal import KAISER, level_gains, resample, rms, to_int16
from experiments.metrics.golden import noise

RATE = 16_000


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three long train clips of different levels, one short, and one clip each for the other splits."""
    random = np.random.default_rng(0)
    lines = ["path,speaker,split"]
    for name, seconds, level, split in (
        ("quiet", 3.0, 0.002, "train"),
        ("normal", 6.0, 0.05, "train"),
        ("loud", 1.0, 0.2, "train"),
        ("short", 0.4, 0.05, "train"),
        ("v", 1.0, 0.05, "val"),
        ("t", 1.0, 0.05, "test"),
    ):
        noise = level * random.standard_normal(round(seconds * RATE))
        soundfile.write(tmp_path / f"{name}.wav", noise.clip(-1, 1), RATE)
        lines.append(f"{name}.wav,{name},{split}")
    (tmp_path / "m.csv").write_text("\n".join(lines))
    return tmp_path / "m.csv"


@pytest.fixture
def prepared(corpus: Path, tmp_path: Path) -> data.Shards:
    return data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=tmp_path / "cache")


def crops(prepared: data.Shards, **changes: int) -> data.Crops:
    options = {"samples": 8_000, "batch_size": 16, "seed": 0, **changes}
    return data.Crops(prepared.split("train"), **options)


# ---- signals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "target"), [(24_000, 16_000), (16_000, 24_000), (44_100, 16_000), (8_000, 16_000)]
)
@pytest.mark.parametrize("length", [5, 1_000, 30_011])
def test_resampling_is_torchaudios(source: int, target: int, length: int) -> None:
    signal_ = np.random.default_rng(1).standard_normal(length)
    reference = Resample(
        source, target, resampling_method="sinc_interp_kaiser", dtype=torch.float64, **KAISER._asdict()
    )
    expected = reference(torch.from_numpy(signal_)).numpy()
    np.testing.assert_allclose(resample(signal_, source, target), expected, rtol=0, atol=1e-12)


def test_clips_between_the_usual_rates_are_pinned() -> None:
    """A change here changes the content hash of every corpus, and so the identity of every run."""
    digest = hashlib.sha256()
    signal_ = 0.5 * noise(4_000, 7)
    for source, target in permutations((8_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000), 2):
        digest.update(to_int16(resample(signal_, source, target)).tobytes())
    assert digest.hexdigest() == "4140c0549cb2c70be35d996a99b65bd68ef7579f844c2e1ff1f999d61276bf7e"


def test_int16_rounding_round_trips_and_clips() -> None:
    stored = np.arange(-32768, 32768, 7, dtype=np.int16)
    np.testing.assert_array_equal(to_int16(stored / 32768), stored)
    np.testing.assert_array_equal(to_int16(np.array([1.5, -1.5])), [32767, -32768])
    np.testing.assert_array_equal(to_int16(np.array([0.6, -0.6, 0.4]) / 32768), [1, -1, 0])


def test_gains_reach_the_target_and_respect_both_limits() -> None:
    level = np.array([0.01, 1e-5, 0.01])
    peak = np.array([0.05, 1e-4, 0.9])
    gains = level_gains(level, peak, np.array([0.01, 0.01, 0.01]), -26.0)
    assert 20 * np.log10(level[0] * gains[0]) == pytest.approx(-26.0)
    # a pause in a clip of normal level: 10 dB above the clip's gain at most
    assert gains[1] == pytest.approx(gains[0] * 10**0.5)
    assert peak[2] * gains[2] == pytest.approx(0.95)


# ---- splits and clips ------------------------------------------------------------------------------------


def test_clips_are_level_normalised_and_memory_mapped(prepared: data.Shards) -> None:
    train = prepared.split("train")
    assert train.names == ["quiet.wav", "normal.wav", "loud.wav", "short.wav"]
    np.testing.assert_allclose(train.seconds, [3.0, 6.0, 1.0, 0.4])
    assert train.total_seconds == pytest.approx(10.4)
    for number in range(len(train)):
        clip = train.clip(number)
        assert clip.dtype == np.float32
        assert 20 * np.log10(np.sqrt(np.mean(clip.astype(np.float64) ** 2))) == pytest.approx(-26.0, abs=0.01)
        plain = train.clip(number, normalise=False)
        np.testing.assert_array_equal(to_int16(plain), train.pcm(number))
        assert train.levels[number] == rms(np.asarray(train.pcm(number)))
    assert not train.pcm(0).flags.writeable
    copy = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(copy.clip(2), train.clip(2))


def test_unknown_and_empty_splits_are_errors(prepared: data.Shards, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unknown split 'dev'"):
        prepared.split("dev")
    (tmp_path / "n.csv").write_text("path,speaker,split\nnormal.wav,,train\nv.wav,,val\n")
    lacking = data.prepare(f"manifest:{tmp_path / 'n.csv'}", sample_rate=RATE, cache=tmp_path / "cache")
    with pytest.raises(DataError, match="no usable test clips"):
        lacking.split("test")


def test_clips_never_straddle_shard_files(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=tmp_path / "1")
    monkeypatch.setattr(shards, "SHARD_SAMPLES", 100_000)
    parts = data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=tmp_path / "2")
    assert len(list(parts.path.glob("train-*.i16"))) == 3
    for number in range(4):
        np.testing.assert_array_equal(parts.split("train").pcm(number), whole.split("train").pcm(number))
    np.testing.assert_array_equal(crops(parts).batch(3), crops(whole).batch(3))


# ---- crops -----------------------------------------------------------------------------------------------


def test_batches_depend_on_seed_and_step_alone(prepared: data.Shards) -> None:
    first, second = crops(prepared), crops(prepared)
    for step in (0, 1, 10**9):
        np.testing.assert_array_equal(first.batch(step), second.batch(step))
    forwards = [first.batch(step) for step in range(5)]
    for step in reversed(range(5)):
        np.testing.assert_array_equal(second.batch(step), forwards[step])
    assert not np.array_equal(forwards[0], forwards[1])
    assert not np.array_equal(crops(prepared, seed=1).batch(0), forwards[0])
    assert forwards[0].shape == (16, 8_000)
    assert forwards[0].dtype == np.float32


def test_ranks_share_the_global_batch(prepared: data.Shards) -> None:
    whole = crops(prepared).batch(7)
    for rank in range(4):
        np.testing.assert_array_equal(crops(prepared, rank=rank, world_size=4).batch(7), whole[rank::4])
    with pytest.raises(DataError, match="cannot be shared"):
        crops(prepared, world_size=3)


def test_clips_are_drawn_by_length_and_starts_uniformly(prepared: data.Shards) -> None:
    sampler = crops(prepared, batch_size=50_000)
    clips, starts = sampler.positions(0)
    samples = sampler.split.samples
    np.testing.assert_allclose(np.bincount(clips) / len(clips), samples / samples.sum(), atol=0.01)
    inside = starts[clips == 1]
    assert inside.min() >= 0
    assert inside.max() <= samples[1] - 8_000
    counts, _ = np.histogram(inside, bins=10, range=(0, samples[1] - 8_000))
    assert counts.min() > 0.9 * counts.mean()
    short = starts[clips == 3]
    assert short.min() >= 6_400 - 8_000
    assert short.max() <= 0


def test_crops_are_pieces_of_their_clips_at_the_target_level(prepared: data.Shards) -> None:
    sampler = crops(prepared, batch_size=200)
    clips, starts = sampler.positions(2)
    assert (starts < 0).any()
    for row, clip, start in zip(sampler.batch(2), clips, starts, strict=True):
        expected = np.zeros(8_000)
        pcm = sampler.split.pcm(clip, max(0, start), max(0, start) + 8_000)[:8_000]
        expected[max(0, -start) : max(0, -start) + len(pcm)] = pcm
        np.testing.assert_allclose(row, expected * (np.abs(row).max() / np.abs(expected).max()), atol=1e-5)
        sounding = row[max(0, -start) : max(0, -start) + len(pcm)]
        assert 20 * np.log10(np.sqrt(np.mean(sounding.astype(np.float64) ** 2))) == pytest.approx(
            -26, abs=0.05
        )


def test_a_crop_longer_than_every_clip_is_padded(prepared: data.Shards) -> None:
    batch = crops(prepared, samples=200_000).batch(0)
    assert batch.shape == (16, 200_000)
    assert (np.count_nonzero(batch, axis=1) <= 6 * RATE).all()


def test_the_order_of_crops_is_pinned(prepared: data.Shards) -> None:
    """A change here changes every trained result: raise the protocol version with it."""
    clips, starts = crops(prepared, batch_size=4, seed=3).positions(5)
    assert (clips.tolist(), starts.tolist()) == ([0, 3, 0, 0], [1611, -1410, 779, 26867])


def test_progress_bar_takes_every_stage(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with progress_bar() as show:
        data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=tmp_path / "cache", progress=show)
    assert "preparing manifest:m.csv at 16000 Hz" in capsys.readouterr().err


# ---- the cache -------------------------------------------------------------------------------------------


def damage(kind: str, path: Path) -> None:
    shard = next(path.glob("train-*.i16"))
    index = path / "index.json"
    if kind == "truncated shard":
        shard.write_bytes(shard.read_bytes()[:-2])
    elif kind == "flipped bit":
        content = bytearray(shard.read_bytes())
        content[1000] ^= 1
        shard.write_bytes(content)
    elif kind == "missing shard":
        shard.unlink()
    elif kind == "missing index":
        index.unlink()
    elif kind == "half an index":
        index.write_bytes(index.read_bytes()[: index.stat().st_size // 2])
    elif kind == "changed index":
        index.write_text(index.read_text().replace("normal.wav", "abnormal.wav"))
    elif kind == "other format":
        index.write_text(index.read_text().replace('"format": 1', '"format": 99'))
    else:
        index.write_text("[]")


@pytest.mark.parametrize(
    "kind",
    [
        "truncated shard",
        "flipped bit",
        "missing shard",
        "missing index",
        "half an index",
        "changed index",
        "other format",
        "not an index",
    ],
)
def test_a_damaged_cache_is_noticed_and_made_again(
    kind: str, corpus: Path, prepared: data.Shards, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage(kind, prepared.path)
    with pytest.raises(CacheError):
        Index.read(prepared.path)
    again = data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=tmp_path / "cache")
    assert again.content_hash == prepared.content_hash
    assert "is damaged" in caplog.text
    assert Index.read(again.path).content_hash() == prepared.content_hash


def test_a_large_cache_is_checked_by_its_ends(prepared: data.Shards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "FULL_CHECK_BYTES", 0)
    assert Index.read(prepared.path).content_hash() == prepared.content_hash
    damage("flipped bit", prepared.path)
    with pytest.raises(CacheError, match="checksum"):
        Index.read(prepared.path)


def test_an_unwritable_cache_is_one_message(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="CODECBENCH_CACHE"):
        data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=tmp_path / "file")


def test_the_environment_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    assert data.cache_directory() == tmp_path
    monkeypatch.delenv("CODECBENCH_CACHE")
    assert data.cache_directory().name == "codecbench"


PREPARE = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from experiments import data
    slow = lambda stage, done, total: time.sleep(float(sys.argv[3]))
    spec, cache = "manifest:" + sys.argv[1], Path(sys.argv[2])
    shards = data.prepare(spec, sample_rate=16000, cache=cache, progress=slow)
    print(shards.content_hash)
""")


def start(corpus: Path, cache: Path, delay: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PREPARE, str(corpus), str(cache), str(delay)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_preparation_leaves_nothing_broken(corpus: Path, tmp_path: Path) -> None:
    cache = tmp_path / "killed"
    process = start(corpus, cache, 30.0)
    deadline = time.monotonic() + 60
    while not list(cache.glob(".*partial*/*.i16")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(cache.glob(".*partial*/*.i16"))
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    shards_ = data.prepare(f"manifest:{corpus}", sample_rate=RATE, cache=cache)
    assert len(shards_.split("train")) == 4
    assert not list(cache.glob(".*partial*"))


def test_two_preparers_at_once_agree(corpus: Path, tmp_path: Path) -> None:
    processes = [start(corpus, tmp_path / "shared", 0.05) for _ in range(2)]
    hashes = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(hashes) == 1
    assert len([path for path in (tmp_path / "shared").iterdir() if not path.name.startswith(".")]) == 1
