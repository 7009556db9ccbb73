"""The demo corpus: synthetic speech that is made once and works offline."""

from collections.abc import Iterator
from pathlib import Path

from experiments.data.corpus import Clip, DataError, Progress
from experiments.data.sources import demo_speech


class Demo:
    """The embedded synthetic corpus."""

    name = "demo"
    synthetic = True
    native_rate: int | None = 24_000

    def __init__(self) -> None:
        self.licence, self.notes = demo_speech.LICENCE, demo_speech.NOTES

    def fingerprint(self) -> str:
        return demo_speech.fingerprint()

    def __len__(self) -> int:
        return len(demo_speech.utterances())

    def listed_splits(self) -> frozenset[str]:
        return frozenset(demo_speech.sentences())

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Fetches nothing: the voice is in hibari's wheel."""

    def items(self, sample_rate: int, start: int = 0) -> Iterator[list[Clip]]:
        """A clip an item; those before `start` are spoken, too, which takes seconds."""
        try:
            for number, (utterance, audio) in enumerate(demo_speech.synthesise()):
                if number >= start:
                    yield [Clip(utterance.name, utterance.voice.name, utterance.split, audio)]
        except RuntimeError as error:
            raise DataError(f"{error}. Remedy: reinstall hibari-tts, or use --data folder:PATH.") from error
