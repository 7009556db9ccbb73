"""Decoding of many audio files at once, in order."""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from experiments.common.machine import data_threads
from experiments.data.corpus import Clip
from experiments.data.decoding import Piece, read_audio


class Source(NamedTuple):
    """An audio file, by its path or its contents, and what is known of it.

    audio: None where there is none to read; `why` says the reason.
    """

    name: str
    speaker: str
    split: str
    audio: Path | bytes | None
    why: str = ""


def decoded(sources: Iterable[Source], sample_rate: int) -> Iterator[list[Clip]]:
    """The clips of each of `sources`, in order, as mono int16 at `sample_rate` Hz with their levels.

    `machine.data_threads()` files are decoded at once; libsndfile and the resampling release Python's lock.
    At most twice as many wait, so memory does not grow with the corpus.
    """
    threads = data_threads()
    waiting: deque[tuple[Source, Future[list[Piece]]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for source in sources:
                waiting.append((source, pool.submit(_read, source, sample_rate)))
                if len(waiting) > 2 * threads:
                    yield _clips(*waiting.popleft())
            while waiting:
                yield _clips(*waiting.popleft())
        finally:
            for _, future in waiting:
                future.cancel()


def _read(source: Source, sample_rate: int) -> list[Piece]:
    if source.audio is None:
        return [Piece("", None, source.why)]
    return list(read_audio(source.audio, sample_rate))


def _clips(source: Source, future: "Future[list[Piece]]") -> list[Clip]:
    return [
        Clip(source.name + piece.suffix, source.speaker, source.split, piece.audio, piece.note, piece.level)
        for piece in future.result()
    ]
