"""The embedded default corpus: our own sentences, spoken by hibari-tts in five pseudo-voices, offline.

The waveforms depend on the kind of CPU. The network quantizes what its 77 layers pass on to 8 bits by ranges
that it measures, so rounding in the last bit becomes a step of 8 bits, moves the pitch by up to some Hz, and
with it all that follows. No rounding of its output can undo that: the content hash tells the kinds apart.

Run as a module it is the worker that speaks a share of the utterances:
`python -m experiments.data.sources.demo_speech`.
"""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import IO

import numpy as np

from experiments.data.signal import Float32, Int16, resample, to_int16

SAMPLE_RATE = 24_000
WORKERS = 2
SENTENCES = Path(__file__).with_name("sentences.txt")
REVISION = 2  # raise when the recipe changes in a way that the fingerprint does not see

LICENCE = "Apache-2.0 (sentences and hibari-tts, synthesised on this machine)"
NOTES = (
    "Synthetic speech: one neural voice (hibari-tts, 'heart') made into five pseudo-voices by resampling, "
    "which moves pitch and formants together. Splits share pseudo-voices, never sentences."
)


@dataclass(frozen=True)
class PseudoVoice:
    name: str
    pitch: float  # factor on fundamental frequency and formants
    pace: float  # speaking rate as heard, 1 is the voice's own


VOICES = (
    PseudoVoice("heart-deep", 0.8, 0.97),
    PseudoVoice("heart-low", 0.9, 1.08),
    PseudoVoice("heart-plain", 1.0, 1.0),
    PseudoVoice("heart-high", 1.12, 1.1),
    PseudoVoice("heart-bright", 1.25, 0.95),
)
VOICES_PER_SENTENCE = {"train": 2, "validation": 1, "test": 1}


@dataclass(frozen=True)
class Utterance:
    name: str
    split: str
    text: str
    voice: PseudoVoice
    pace: float
    seed: int


@cache
def sentences() -> dict[str, list[str]]:
    """The sentences of every split, from the list in the package."""
    splits: dict[str, list[str]] = {}
    split = ""
    for line in SENTENCES.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            split = line.strip("[]")
        elif line and not line.startswith("#"):
            splits.setdefault(split, []).append(line)
    return splits


def utterances() -> list[Utterance]:
    """Utterances in order: sentence, pseudo-voice, a pace within 8 % of the voice's, a fixed seed."""
    spoken: list[Utterance] = []
    for split, texts in sentences().items():
        for number, text in enumerate(texts):
            for turn in range(VOICES_PER_SENTENCE[split]):
                voice = VOICES[(number + 2 * turn) % len(VOICES)]
                sway = 0.92 + 0.16 * ((len(spoken) * 0.61803398875) % 1.0)
                name = f"{split}-{number + 1:03d}-{voice.name.removeprefix('heart-')}"
                spoken.append(Utterance(name, split, text, voice, voice.pace * sway, len(spoken)))
    return spoken


def fingerprint() -> str:
    """Changes when sentences, voices or the synthesiser do."""
    parts = [str(REVISION), version("hibari-tts"), repr(utterances())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def synthesise() -> Iterator[tuple[Utterance, Int16]]:
    """Speak all utterances, int16 [samples] at 24 kHz, in `WORKERS` processes with one thread each.

    One thread because onnxruntime's sums, and with them the last bit of the audio, depend on their number.
    Raises `RuntimeError` with the worker's last words if one fails.
    """
    spoken = utterances()
    workers = []
    try:
        for share in range(WORKERS):
            workers.append(
                subprocess.Popen(
                    [sys.executable, "-m", "experiments.data.sources.demo_speech"],
                    cwd=Path(__file__).parents[3],  # where `experiments` is this package and no other
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    start_new_session=True,  # an interrupt is the parent's to handle
                )
            )
            # Resampling will change the pace by the pitch factor: speak slower or faster to make up for it.
            tasks = [(u.text, u.pace / u.voice.pitch, u.seed) for u in spoken[share::WORKERS]]
            with contextlib.suppress(BrokenPipeError):  # a dead worker is noticed below
                _stream(workers[share].stdin).write(json.dumps(tasks).encode() + b"\n")
                _stream(workers[share].stdin).flush()
        for number, utterance in enumerate(spoken):
            worker = workers[number % WORKERS]
            size = _stream(worker.stdout).read(8)
            voice = np.frombuffer(_stream(worker.stdout).read(int.from_bytes(size, "little")), "<f4")
            if not len(voice):
                words = _stream(worker.stderr).read().decode(errors="replace").strip() or "no message"
                raise RuntimeError(f"speaking the demo corpus failed: {words.splitlines()[-1]}")
            source_rate = round(SAMPLE_RATE * utterance.voice.pitch)
            yield utterance, trim(to_int16(resample(voice, source_rate, SAMPLE_RATE)))
    finally:
        for worker in workers:
            worker.kill()
            with contextlib.suppress(BrokenPipeError):
                worker.communicate()


def trim(audio: Int16) -> Int16:
    """Cut the silence around the speech (45 dB below the loudest 10 ms), but for a tenth of a second."""
    frame, margin = SAMPLE_RATE // 100, SAMPLE_RATE // 10
    frames = audio[: len(audio) // frame * frame].reshape(-1, frame).astype(np.float64)
    energy = np.square(frames).mean(axis=1)
    sounding = np.flatnonzero(energy > energy.max() * 10**-4.5) * frame
    return audio[max(0, sounding[0] - margin) : sounding[-1] + frame + margin]


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream


def _speak(tasks: list[tuple[str, float, int]], output: IO[bytes], say: Callable[..., Float32]) -> None:
    for text, speed, seed in tasks:
        audio = say(text, speed=speed, seed=seed).astype("<f4").tobytes()
        output.write(len(audio).to_bytes(8, "little") + audio)
        output.flush()


if __name__ == "__main__":
    from hibari import Hibari

    _speak(json.loads(sys.stdin.readline()), sys.stdout.buffer, Hibari(voice="heart", threads=1))
