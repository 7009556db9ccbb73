"""Fuzzer of the readers of audio: files that are almost right, in a process whose memory is limited.

    python tests/experiments/data/fuzz_audio.py SECONDS FOLDER

FOLDER/last holds the file that is being read: what a crash or a hang leaves there is its reproduction.
"""

import io
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from codec.resampling import LOWEST_RATE
from experiments import data
from experiments.data.decoding import LONGEST_SECONDS, read_audio
from experiments.evaluation.audio_pairs import ClipFiles
from experiments.metrics import MetricFailure
from experiments.metrics.signals import LONGEST_SECONDS as LONGEST_SCORED
from experiments.metrics.signals import prepare_pair, resample

RATE = 16_000
MEMORY = 600 * 2**20  # bytes beyond what the libraries take
SECONDS_A_FILE = 20
SAMPLES_A_BYTE = 8  # of what is not compressed: one bit per sample
SAMPLES_A_BYTE_COMPRESSED = 6_000  # a FLAC frame of 65,535 equal samples takes 14 bytes, an Opus packet two
COMPRESSED = ("FLAC", "OGG", "MP3")


def _encoded(seconds: float = 0.4, channels: int = 1, **options: str) -> bytes:
    time_ = np.arange(round(seconds * RATE)) / RATE
    signal_ = 0.2 * np.sin(2 * np.pi * 220 * time_) + 0.02 * np.random.default_rng(0).standard_normal(
        len(time_)
    )
    file = io.BytesIO()
    soundfile.write(file, np.repeat(signal_[:, None], channels, axis=1), RATE, **options)
    return file.getvalue()


FILES = [
    _encoded(format="WAV"),
    _encoded(format="WAV", channels=2, subtype="PCM_24"),
    _encoded(format="WAV", subtype="FLOAT"),
    _encoded(format="WAV", subtype="DOUBLE"),
    *(_encoded(format="WAV", subtype=name) for name in ("PCM_U8", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")),
    *(_encoded(format="WAV", subtype=name) for name in ("G721_32", "NMS_ADPCM_32", "ALAW")),
    *(_encoded(format=name) for name in ("WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3")),
    *(_encoded(format=name) for name in ("NIST", "VOC", "SVX", "IRCAM", "AVR")),
    _encoded(format="FLAC", channels=2),
    _encoded(format="OGG", subtype="OPUS"),
    _encoded(format="OGG", channels=2),
    _encoded(format="CAF", subtype="ALAC_16"),
    _encoded(format="AIFF", subtype="IMA_ADPCM"),
    _encoded(format="AIFF", subtype="DWVW_16"),
    _encoded(format="AU", subtype="G721_32"),
]

INTEGERS = st.one_of(
    st.sampled_from(
        [0, 1, 2, 3, 7, 8, 15, 16, 24, 32, 255, 256, 1_000, 1_024, 2_047, 4_000, 192_000, 655_347]
    ),
    st.sampled_from([2**15 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)
KINDS = ["known"] * 3 + ["field"] * 2 + ["bytes", "cut", "insert", "delete", "copy", "join"]


def named_fields(content: bytes) -> list[tuple[int, int, str]]:
    """Place, size and byte order of what looks like a rate, a length or a number of channels in a header."""
    known = {
        RATE,
        max(0, len(content) - 8),
        2 * RATE,
        *(round(0.4 * RATE) * size for size in (1, 2, 3, 4, 6, 8)),
        1,
        2,
    }
    fields = []
    for size in (2, 4, 8):
        for order in ("little", "big"):
            for number in sorted(known):
                if number < 256**size:
                    place = content.find(number.to_bytes(size, order), 4, 128)
                    fields += [(place, size, order)] if place >= 0 else []
    return fields


class File(bytes):
    """Contents of a file; too long to be shown."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes, which lie in FOLDER/last>"


@st.composite
def files(draw: st.DrawFn) -> File:
    """A small audio file with some bytes, fields and lengths that are wrong."""
    content = bytearray(draw(st.sampled_from(FILES)))
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(KINDS))
        place = draw(st.one_of(st.integers(0, 80), st.integers(0, max(0, len(content) - 1))))
        if kind == "known" and (fields := named_fields(content)):
            place, size, order = draw(st.sampled_from(fields))
            content[place : place + size] = (draw(INTEGERS) % 256**size).to_bytes(size, order)
        elif kind in ("known", "field"):
            size = draw(st.sampled_from([1, 2, 4, 8]))
            order = draw(st.sampled_from(["little", "big"]))
            content[place : place + size] = (draw(INTEGERS) % 256**size).to_bytes(size, order)
        elif kind == "bytes":
            new = draw(st.binary(min_size=1, max_size=64))
            content[place : place + len(new)] = new
        elif kind == "cut":
            del content[place:]
        elif kind == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=64))
        elif kind == "delete":
            del content[place : place + draw(st.integers(1, 512))]
        elif kind == "copy":
            content[place:place] = content[place : place + draw(st.integers(1, 2_048))]
        else:
            other = draw(st.sampled_from(FILES))
            content = content[:place] + other[draw(st.integers(0, len(other))) :]
    return File(content)


def check_reason(why: str) -> None:
    assert why, "no reason"
    assert "\n" not in why, why
    assert len(why) < 400, why
    assert "memory" not in why, why


def longest(path: Path, size: int) -> float:
    """Seconds of audio that `size` bytes can hold at most."""
    try:
        about = soundfile.info(str(path))
    except soundfile.SoundFileError:
        return 0.0
    compressed = about.format in COMPRESSED or about.subtype.startswith(("ALAC", "MPEG"))
    most = SAMPLES_A_BYTE_COMPRESSED if compressed else SAMPLES_A_BYTE
    return size * most / max(LOWEST_RATE, about.samplerate)


def check_file(path: Path, content: bytes) -> None:
    """Read one file in every way; whatever is wrong with it is a reason."""
    path.write_bytes(content)
    clips = []
    for source in (path, content):
        pieces = list(read_audio(source, RATE))
        assert pieces
        seconds = 0.0
        for piece in pieces:
            if piece.audio is None:
                check_reason(piece.note)
                continue
            assert piece.audio.dtype == np.int16
            assert 0 < len(piece.audio) <= (LONGEST_SECONDS + 0.1) * RATE
            assert "\n" not in piece.note
            seconds += len(piece.audio) / RATE
        assert seconds <= longest(path, len(content)) + 0.1, (seconds, pieces[0].note)
        clips.append([None if piece.audio is None else piece.audio.tobytes() for piece in pieces])
    assert clips[0] == clips[1], "a file and its contents differ"
    try:
        clip = ClipFiles({"a": path}, RATE)["a"]
    except OSError as error:
        check_reason(str(error))
        return
    assert clip.ndim == 1
    assert clip.dtype == np.float32
    assert len(clip) <= (LONGEST_SCORED + 1) * RATE
    try:
        prepare_pair(clip, clip, RATE)
    except MetricFailure as failure:
        check_reason(str(failure))


def check_folder(folder: Path, contents: list[bytes]) -> None:
    """Prepare a corpus of good and bad files: every file is a clip or has a reason."""
    for path in folder.rglob("*"):
        if path.is_file():
            path.unlink()
    (folder / "c").mkdir(exist_ok=True)
    for number, content in enumerate([*FILES[:3], *contents]):
        (folder / "c" / f"{number}.wav").write_bytes(content)
    shards = data.prepare(f"folder:{folder / 'c'}", sample_rate=RATE, cache=folder / "cache")
    names = {name for split in ("train", "validation", "test") for name in shards._index.splits[split].names}
    told = {name for name, _ in shards.skipped}
    for number in range(len(contents) + 3):
        assert any(name.partition("@")[0] == f"{number}.wav" for name in names | told), number
    for split in ("train", "validation", "test"):
        if shards._index.splits[split].names:
            for clip in range(len(shards.split(split))):
                assert np.isfinite(shards.split(split).clip(clip)).all()


def alarm(*_: object) -> None:
    raise TimeoutError(f"one file takes more than {SECONDS_A_FILE} s")


def main() -> None:
    duration, folder = float(sys.argv[1]), Path(sys.argv[2])
    path, corpus = folder / "last", folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for rate in (44_100, 16_001):  # what is imported late is imported now
        resample(np.ones(rate, np.float32), rate, RATE)
    check_file(path, FILES[0])
    check_folder(corpus, FILES[3:5])
    with Path("/proc/self/statm").open() as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
    signal.signal(signal.SIGALRM, alarm)
    end = time.monotonic() + duration
    done = 0
    options = settings(
        max_examples=100,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    while time.monotonic() < end:

        @seed(time.time_ns() if duration > 60 else done)
        @options
        @given(files())
        def one(content: bytes) -> None:
            signal.alarm(SECONDS_A_FILE)
            if time.monotonic() < end:
                check_file(path, content)
            signal.alarm(0)

        @seed(time.time_ns() if duration > 60 else done)
        @settings(options, max_examples=5)
        @given(st.lists(files(), min_size=2, max_size=4))
        def several(contents: list[bytes]) -> None:
            signal.alarm(5 * SECONDS_A_FILE)
            if time.monotonic() < end:
                check_folder(corpus, contents)
            signal.alarm(0)

        one()
        several()
        done += 1
    print(f"{100 * done} files")


if __name__ == "__main__":
    main()
