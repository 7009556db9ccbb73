"""Audio files whose headers tell less than the truth, or more: unknown lengths, cut files, absurd rates."""

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from experiments import data
from experiments.data import decoding, formats, recording
from experiments.data.decoding import Piece, read_audio
from experiments.data.recording import open_recording
from experiments.evaluation.audio_pairs import ClipFiles, recordings

RATE = 16_000
OPUS = {"format": "OGG", "subtype": "OPUS"}


def tone(seconds: float, rate: int = RATE) -> np.ndarray:
    """A swelling chord with a little noise, so that every codec spends bits all the time."""
    time = np.arange(round(seconds * rate)) / rate
    waves = sum(np.sin(2 * np.pi * 180 * k * time) / k for k in (1, 2, 3))
    noise = np.random.default_rng(1).standard_normal(len(time))
    return 0.1 * waves * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)) + 0.01 * noise


def write(path: Path, signal: np.ndarray, rate: int = RATE, **options: str) -> Path:
    """In parts: libsndfile's Vorbis encoder takes no minute at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = 1 if signal.ndim == 1 else signal.shape[1]
    with soundfile.SoundFile(path, "w", rate, channels, **options) as file:
        for start in range(0, len(signal), 8192):
            file.write(signal[start : start + 8192])
    return path


def forget_length(path: Path) -> Path:
    """A FLAC file as an encoder writes it to a pipe: no number of samples, no checksum."""
    content = bytearray(path.read_bytes())
    assert content[:4] == b"fLaC"
    content[8 + 13] &= 0xF0
    content[8 + 14 : 8 + 34] = bytes(20)
    path.write_bytes(content)
    return path


def seconds_of(pieces: list[Piece]) -> list[float]:
    return [len(piece.audio) / RATE for piece in pieces if piece.audio is not None]


# ---- lengths that are not known --------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [2.0, 60.0, 70.0, 90.0])
def test_flac_of_unknown_length_is_read_like_any_other(tmp_path: Path, seconds: float) -> None:
    path = write(tmp_path / "a.flac", tone(seconds))
    known = list(read_audio(path, RATE))
    forget_length(path)
    with open_recording(path) as file:
        assert file.stated is None
    unknown = list(read_audio(path, RATE))
    assert [piece.suffix for piece in unknown] == [piece.suffix for piece in known]
    for piece, expected in zip(unknown, known, strict=True):
        np.testing.assert_array_equal(piece.audio, expected.audio)
        assert piece.note == expected.note == ""


@pytest.mark.parametrize("subtype", ["GSM610", "IMA_ADPCM", "MS_ADPCM", "G721_32", "ULAW"])
def test_encodings_that_cannot_seek_are_read(tmp_path: Path, subtype: str) -> None:
    path = write(tmp_path / "a.wav", tone(2.0), subtype=subtype)
    [piece] = read_audio(path, RATE)
    assert piece.audio is not None
    assert len(piece.audio) / RATE == pytest.approx(2.0, abs=0.05)
    middle = piece.audio[:RATE].astype(np.float64) / 32768
    assert np.corrcoef(middle, tone(2.0)[:RATE])[0, 1] > 0.95


def test_evaluation_reads_them_too(tmp_path: Path) -> None:
    forget_length(write(tmp_path / "flac.flac", tone(2.0)))
    write(tmp_path / "gsm.wav", tone(2.0), subtype="GSM610")
    forget_length(write(tmp_path / "hour.flac", tone(301.0, 8_000), 8_000))
    clips = ClipFiles(recordings(tmp_path), RATE)
    np.testing.assert_allclose(clips["flac"], tone(2.0), atol=1e-4)
    assert len(clips["gsm"]) == pytest.approx(2 * RATE, abs=400)
    with pytest.raises(OSError, match="too long: 300 s, at most 300 s"):
        clips["hour"]


def test_a_corpus_of_such_files_is_prepared(tmp_path: Path) -> None:
    for number in range(4):
        forget_length(write(tmp_path / "c" / f"{number}.flac", tone(1.0 + number / 10)))
    shards = data.prepare(f"folder:{tmp_path / 'c'}", sample_rate=RATE, cache=tmp_path / "cache")
    assert not shards.report
    assert sum(len(shards.split(name)) for name in ("train", "validation", "test")) == 4


# ---- files that end too early ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "used", "note"),
    [
        ("a.wav", {}, 2.0, "ends after 2.00 of 4.00 s"),
        ("a.wav", {"format": "RF64"}, 2.0, "ends after 2.00 of 4.00 s"),
        ("a.w64", {}, 2.0, "ends after 2.00 of 4.00 s"),
        ("a.aiff", {}, 2.0, "ends after 2.00 of 4.00 s"),
        ("a.au", {}, 2.0, "ends after 2.00 of 4.00 s"),
        ("a.flac", {}, 1.9, "of 4.00 s: flac decoder lost sync"),
        ("a.ogg", {}, 1.0, "s, before its last page"),
        ("a.opus", OPUS, 1.0, "s, before its last page"),
        ("a.mp3", {}, 1.9, "of 4.00 s"),
    ],
)
@pytest.mark.parametrize("in_memory", [False, True], ids=["file", "member"])
def test_half_a_file_is_used_as_far_as_it_goes_and_noted(
    tmp_path: Path, name: str, options: dict[str, str], used: float, note: str, in_memory: bool
) -> None:
    path = write(tmp_path / name, tone(4.0), **options)
    [whole] = read_audio(path, RATE)
    assert whole.note == ""
    assert whole.audio is not None
    content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    [half] = read_audio(content if in_memory else path, RATE)
    assert half.audio is not None, half.note
    assert used - 0.4 < len(half.audio) / RATE < used + 0.5
    assert note in half.note
    # The same audio as in the whole file, but for the resampler's and the codec's last milliseconds.
    kept = len(half.audio) - RATE // 10
    difference = half.audio[:kept].astype(int) - whole.audio[:kept]
    assert np.abs(difference).max() <= 2


def test_damage_in_a_long_file_keeps_the_pieces_before_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(100.0))
    content = bytearray(path.read_bytes())
    at = len(content) * 7 // 10
    content[at : at + 3000] = b"\xff" * 3000
    path.write_bytes(content)
    pieces = list(read_audio(path, RATE))
    assert [piece.suffix for piece in pieces] == ["@0s", "@30s", "@60s"]
    assert seconds_of(pieces)[:2] == [30.0, 30.0]
    assert 5 < seconds_of(pieces)[2] < 12
    assert [bool(piece.note) for piece in pieces] == [False, False, True]
    assert "of 100.00 s: flac decoder lost sync" in pieces[-1].note


def test_a_cut_that_falls_between_two_pieces_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(90.0))
    path.write_bytes(path.read_bytes()[: 44 + 2 * 60 * RATE])
    pieces = list(read_audio(path, RATE))
    assert seconds_of(pieces) == [60.0]
    assert pieces[-1].note == "ends after 60.00 of 90.00 s"


def test_sizes_that_a_stream_leaves_open_are_no_lie(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", tone(2.0))
    content = bytearray(path.read_bytes())
    content[4:8] = content[40:44] = b"\xff\xff\xff\xff"
    [piece] = read_audio(bytes(content), RATE)
    assert seconds_of([piece]) == [2.0]
    assert piece.note == ""


def test_a_damaged_reconstruction_is_not_scored_as_a_short_one(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", tone(4.0))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 95 // 100])
    with pytest.raises(OSError, match=r"ends after 3\.\d\d of 4\.00 s: flac decoder lost sync"):
        ClipFiles({"a": path}, RATE)["a"]


# ---- rates and channels that cannot be -------------------------------------------------------------------


def with_rate(rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(2.0), RATE, format="WAV")
    content = bytearray(file.getvalue())
    content[24:28] = struct.pack("<I", rate)
    return bytes(content)


@pytest.mark.parametrize("rate", [1, 3_999, 192_001, 655_347, 2**31 - 1])
def test_a_header_with_an_absurd_rate_gives_no_clip(tmp_path: Path, rate: int) -> None:
    [piece] = read_audio(with_rate(rate), RATE)
    assert piece == Piece("", None, f"sample rate {rate} Hz is outside 4000 to 192000 Hz")
    (tmp_path / "a.wav").write_bytes(with_rate(rate))
    with pytest.raises(OSError, match=f"sample rate {rate} Hz is outside"):
        ClipFiles({"a": tmp_path / "a.wav"}, RATE)["a"]


@pytest.mark.parametrize("rate", [16_001, 23_993, 22_254, 11_127, 44_101, 4_000, 96_000])
def test_any_rate_between_gives_a_clip(rate: int) -> None:
    [piece] = read_audio(with_rate(rate), RATE)
    assert seconds_of([piece]) == [pytest.approx(2 * RATE / rate, abs=1e-3)]


def test_samples_beyond_any_scale_are_damage(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.r_[tone(1.0), 1e300], subtype="DOUBLE")
    [piece] = read_audio(path, RATE)
    assert piece == Piece("", None, "samples up to 1e+300, where full scale is 1")
    path = write(
        tmp_path / "b.wav", 2**31 * tone(1.0), subtype="DOUBLE"
    )  # integers as floats are scaled down
    [piece] = read_audio(path, RATE)
    assert piece.audio is not None


def test_many_channels_are_mixed_alike_in_blocks_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    signal = np.stack([np.roll(tone(1.0), k) * (1 + k) / 20 for k in range(9)], axis=1)
    soundfile.write(file, signal, RATE, format="WAV", subtype="FLOAT")
    [piece] = read_audio(file.getvalue(), RATE)
    monkeypatch.setattr(recording, "BLOCK", 2**20)
    [whole] = read_audio(file.getvalue(), RATE)
    np.testing.assert_array_equal(piece.audio, whole.audio)


# ---- whatever goes wrong ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (MemoryError(), "out of memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory\nmore"), "DefaultCPUAllocator: can't al"),
        (AssertionError(), "damaged"),
    ],
)
def test_what_one_file_does_never_ends_the_corpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, why: str
) -> None:
    for number in range(4):
        write(tmp_path / "c" / f"{number}.wav", tone(1.0))
    write(tmp_path / "c" / "bad.wav", tone(1.0, 8_000), 8_000)
    resample = decoding.resample

    def failing(signal: np.ndarray, source: int, target: int) -> np.ndarray:
        if source == 8_000:
            raise failure
        return resample(signal, source, target)

    monkeypatch.setattr(decoding, "resample", failing)
    shards = data.prepare(f"folder:{tmp_path / 'c'}", sample_rate=RATE, cache=tmp_path / "cache")
    [(name, reason)] = shards.skipped
    assert name == "bad.wav"
    assert reason.startswith(why)
    assert "\n" not in reason


def test_the_contents_decide_the_format_not_the_name(tmp_path: Path) -> None:
    """libsndfile would take any text named .au for mu-law at 8 kHz, and any named .vox for ADPCM."""
    for name in ("letter.au", "letter.snd", "letter.wav"):
        (tmp_path / name).write_bytes(b"Dear Sir or Madam, this is not a recording. " * 2_000)
        [piece] = read_audio(tmp_path / name, RATE)
        assert piece == Piece("", None, "not readable as audio: Format not recognised")
    [piece] = read_audio(write(tmp_path / "flac.wav", tone(1.0), format="FLAC"), RATE)
    assert seconds_of([piece]) == [1.0]
    [piece] = read_audio(write(tmp_path / "sds.wav", tone(1.0), format="SDS", subtype="PCM_16"), RATE)
    assert piece == Piece("", None, "SDS cannot be read: convert it to FLAC")


# ---- endings ---------------------------------------------------------------------------------------------

WRITTEN: dict[str, dict[str, str]] = {
    **{
        f".{ending}": {} for ending in ("wav", "w64", "flac", "mp3", "ogg", "aiff", "au", "caf", "avr", "svx")
    },
    ".wave": {"format": "WAVEX"},
    ".bwf": {"format": "WAV"},
    ".rf64": {"format": "RF64"},
    ".oga": {"format": "OGG"},
    ".opus": OPUS,
    ".mp2": {"format": "MP3"},
    ".aif": {"format": "AIFF"},
    ".aifc": {"format": "AIFF", "subtype": "ULAW"},
    ".snd": {"format": "AU"},
    ".sph": {"format": "NIST"},
    ".nist": {"format": "NIST"},
    ".voc": {},
    ".8svx": {"format": "SVX", "subtype": "PCM_S8"},
    ".ircam": {"format": "IRCAM"},
}


def test_every_ending_that_is_read_can_be_read(tmp_path: Path) -> None:
    assert set(WRITTEN) == formats.READABLE
    for ending, options in WRITTEN.items():
        path = write(tmp_path / "c" / f"a{ending}", tone(1.0), **options)
        [piece] = read_audio(path, RATE)
        assert piece.audio is not None, (ending, piece.note)
        assert not piece.note or options.get("subtype") == "PCM_S8", (ending, piece.note)
    found = recordings_of_each(tmp_path / "c")
    assert found == formats.READABLE


def recordings_of_each(folder: Path) -> set[str]:
    """What `evaluate` sees of a folder: one file a name, so each file by itself."""
    seen = set()
    for path in sorted(folder.iterdir()):
        alone = folder.parent / "alone" / path.suffix[1:]
        alone.mkdir(parents=True)
        path.rename(alone / path.name)
        [clip] = ClipFiles(recordings(alone), RATE).values()
        assert len(clip) == pytest.approx(RATE, abs=1_600)
        seen.add(path.suffix)
    return seen


def test_every_file_that_looks_like_audio_is_used_or_listed(tmp_path: Path) -> None:
    for name in ("a.wav", "b.caf", "c.w64", "d.AU", "sub/e.flac"):
        write(tmp_path / "c" / name, tone(1.0), **({"format": "AU"} if name == "d.AU" else {}))
    for ending in formats.FOREIGN:
        (tmp_path / "c" / f"x{ending.upper()}").write_bytes(b"x")
    (tmp_path / "c" / "notes.txt").write_text("no audio")
    (tmp_path / "c" / "linked").symlink_to(tmp_path / "c" / "sub")
    shards = data.prepare(f"folder:{tmp_path / 'c'}", sample_rate=RATE, cache=tmp_path / "cache")
    used = {name for split in ("train", "validation", "test") for name in shards.split(split).names}
    assert used == {"a.wav", "b.caf", "c.w64", "d.AU", "sub/e.flac"}
    skipped = dict(shards.skipped)
    assert skipped.pop("linked") == "a link to a folder, which is not followed"
    assert skipped == {
        f"x{ending.upper()}": f"{ending.upper()} cannot be read: convert it to FLAC"
        for ending in formats.FOREIGN
    }


@pytest.mark.parametrize("read", [read_audio])
def test_nothing_is_said_of_files_that_are_right(tmp_path: Path, read: Callable[..., object]) -> None:
    """Each format at its lengths of one block, of some, and with a rest."""
    for samples in (4_096, 12_288, 33_333, 64_000):
        for name, options in (("a.wav", {}), ("a.flac", {}), ("a.ogg", {}), ("a.opus", OPUS), ("a.mp3", {})):
            [piece] = read_audio(write(tmp_path / name, tone(samples / RATE), **options), RATE)
            assert piece.note.startswith("too short") or not piece.note, (name, samples, piece.note)
