"""Preparation of a corpus: shards at one sample rate, made once, kept in the cache."""

import errno
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path

from codec.resampling import rate_problem
from experiments.data import cache as files
from experiments.data import known_listings, writing
from experiments.data.cache import SPLITS, CacheError, Index, cache_directory
from experiments.data.corpus import Clip, Corpus, DataError, Progress
from experiments.data.dataset import LACKING_REMEDY, Shards
from experiments.data.signal import resample, to_int16
from experiments.data.sources.folder import AudioFiles
from experiments.data.sources.registry import parse
from experiments.data.sources.streamed import StreamedCorpus
from experiments.data.writing import Writer

_log = logging.getLogger("codecbench.data")


def prepare(
    spec: str,
    *,
    sample_rate: int,
    cache: Path | None = None,
    progress: Progress | None = None,
    needed: Collection[str] = (),
) -> Shards:
    """The corpus `spec` as shards at `sample_rate` Hz: from the cache, or made now.

    needed: a corpus without usable clips for one of these splits is an error, told as early as may be. A
    study needs all of `SPLITS` to train on, and the test split of what it is only scored on.

    Safe against kills (a temporary directory is renamed when all is written, and the next preparation of the
    same corpus goes on in it), against several preparers at once (the second waits), and against damage
    (checked at every opening, made again with a message).
    Raises `DataError` for whatever is wrong with the user's data.
    """
    if why := rate_problem(sample_rate):
        raise DataError(why)
    root = cache or cache_directory()
    shards = _known(root, spec, sample_rate)
    if shards is None:
        corpus, target = _listed(root, spec, sample_rate, needed)
        shards = _prepare(corpus, spec, sample_rate, root, target, progress)
    shards.check_splits(needed)
    return shards


def unchanged(spec: str, content_hash: str, *, sample_rate: int) -> Shards:
    """The corpus `spec` as `prepare` gives it, if it still has the content that a study began with.

    Raises DataError, also where the content is another.
    """
    shards = prepare(spec, sample_rate=sample_rate)
    if shards.content_hash != content_hash:
        raise DataError(
            f"the corpus {spec} changed while the study ran. Remedy: put its files back and start the same "
            "command with --retry. Without --retry it makes new runs, of the corpus as it is now"
        )
    return shards


def _known(root: Path, spec: str, sample_rate: int) -> Shards | None:
    """The shards of a large corpus that is prepared and has not changed: its files are not listed again."""
    known = known_listings.recall(root, spec)
    if known is None:
        return None
    target = _target(root, spec, sample_rate, known.fingerprint)
    index = _open(target)
    return None if index is None else Shards(target, index)


def _listed(root: Path, spec: str, sample_rate: int, needed: Collection[str]) -> tuple[Corpus, Path]:
    """The corpus, and where its shards are or will be."""
    began = time.time()
    corpus = parse(spec)
    _check_listed(corpus, needed)
    _check_root(root)  # so that a plan tells it, and not only the run
    fingerprint = corpus.fingerprint()
    if isinstance(corpus, AudioFiles):
        known_listings.remember(root, spec, corpus, fingerprint, began)
    return corpus, _target(root, spec, sample_rate, fingerprint)


def _prepare(
    corpus: Corpus, spec: str, sample_rate: int, root: Path, target: Path, progress: Progress | None
) -> Shards:
    stream = _stream(corpus)
    try:
        if index := _open(target):
            return Shards(target, index, stream)
        with files.locked(target) as alone:
            if index := _open(target):  # made by another process while this one waited
                return Shards(target, index, stream)
            if corpus.native_rate and corpus.native_rate != sample_rate:
                base = prepare(spec, sample_rate=corpus.native_rate, cache=root, progress=progress)
                items = partial(_resampled, base, sample_rate)
            else:
                corpus.fetch(root, progress)
                items = partial(corpus.items, sample_rate)
            index = _write(corpus, items, sample_rate, target, alone, progress)
    except OSError as error:
        raise _unusable(root, error) from error
    return Shards(target, index, stream)


def _check_root(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise _unusable(root, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))


def _unusable(root: Path, error: OSError) -> DataError:
    return DataError(
        f"cannot use the cache {root}: {error.strerror or error}. "
        "Remedy: make room there, or set CODECBENCH_CACHE to another directory."
    )


def prepared(spec: str, *, sample_rate: int, needed: Collection[str] = ()) -> Shards | None:
    """The corpus `spec` if it lies prepared in the cache. Raises `DataError` as `prepare` does."""
    root = cache_directory()
    shards = _known(root, spec, sample_rate)
    if shards is None:
        corpus, target = _listed(root, spec, sample_rate, needed)
        if (index := _open(target)) is None:
            return None
        shards = Shards(target, index, _stream(corpus))
    shards.check_splits(needed)
    return shards


def _check_listed(corpus: Corpus, needed: Collection[str]) -> None:
    if lacking := [split for split in needed if split not in corpus.listed_splits()]:
        raise DataError(f"corpus {corpus.name!r} has no files for {' and '.join(lacking)}. {LACKING_REMEDY}")


def _stream(corpus: Corpus) -> StreamedCorpus | None:
    return corpus if isinstance(corpus, StreamedCorpus) else None


def _target(root: Path, spec: str, sample_rate: int, fingerprint: str) -> Path:
    kind = spec.partition(":")[0]
    return root / f"{kind}-{sample_rate}-{fingerprint[:16]}"


def _open(target: Path) -> Index | None:
    if not target.exists():
        return None
    try:
        return Index.read(target)
    except CacheError as error:
        _log.warning("the cache %s is damaged (%s): preparing it again", target, error)
        return None


def _resampled(base: Shards, sample_rate: int, start: int) -> Iterator[list[Clip]]:
    places = [(split, number) for split in map(base.split, SPLITS) for number in range(len(split))]
    for split, number in places[start:]:
        audio = to_int16(resample(split.clip(number, normalise=False), base.sample_rate, sample_rate))
        yield [Clip(split.names[number], split.speakers[number], split.name, audio)]


def _write(
    corpus: Corpus,
    items: Callable[[int], Iterator[list[Clip]]],
    sample_rate: int,
    target: Path,
    alone: bool,
    progress: Progress | None,
) -> Index:
    """Write what `items(start)` gives, from where a preparation that was killed had come."""
    stage = f"preparing {corpus.name} at {sample_rate} Hz"
    with files.staged_directory(target, alone, keep=writing.has_journal) as directory:
        with Writer(directory) as writer:
            for item in items(writer.done):
                for clip in item:
                    writer.add(clip)
                writer.end_item()
                if progress:
                    progress(stage, writer.done, max(writer.done, len(corpus)))
            writer.finish()
        if not any(columns.names for columns in writer.splits.values()):
            writer.forget()
            raise DataError(_nothing_usable(corpus.name, writer.report))
        index = Index(
            name=corpus.name,
            sample_rate=sample_rate,
            synthetic=corpus.synthetic,
            licence=corpus.licence,
            notes=corpus.notes,
            splits=writer.splits,
            files=writer.files,
            report=writer.report,
        )
        index.write(directory)
        writer.forget()
    return index


def _nothing_usable(name: str, report: list[tuple[str, str, str]]) -> str:
    shown = "; ".join(f"{file!r}: {why}" for file, _, why in report[:3])
    more = f"; and {len(report) - 3} more" if len(report) > 3 else ""
    return f"corpus {name!r}: none of its files is usable ({shown}{more}). Give it readable speech files."
