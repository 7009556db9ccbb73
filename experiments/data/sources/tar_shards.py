"""Corpora of tar shards that are streamed in training: those of WebDataset, and archives as published."""

import hashlib
import os
import re

from experiments.data.cache import SPLITS
from experiments.data.corpus import Clip, DataError
from experiments.data.sources import tar_patterns
from experiments.data.sources.streamed import StreamedCorpus
from experiments.data.sources.tar_samples import Shard
from experiments.data.splitting import split_of_folder


def parse(kind: str, rest: str) -> StreamedCorpus:
    """The corpus of `rest`, one pattern or three named ones.

    webdataset: shards are splits, whoever speaks in them. tar-stream: speakers who are held out do not train;
    a single pattern may name archives that are called like splits, or one or two that hold all splits.
    Raises DataError, also where a web server does not answer.
    """
    form = f"{kind}:PATTERN or {kind}:train=PATTERN,validation=PATTERN,test=PATTERN"
    parts = re.split(r"(?:^|,)(train|validation|test)=", rest)
    if not rest or (len(parts) > 1 and parts[0]):
        raise DataError(f"corpus '{kind}:{rest}' lacks its shards: write {form}")
    patterns = {"": rest} if len(parts) == 1 else dict(zip(parts[1::2], parts[2::2], strict=True))
    missing = [name for name in SPLITS if not patterns.get(name)]
    if len(parts) > 1 and (missing or len(parts) != 2 * len(SPLITS) + 1):
        raise DataError(f"corpus '{kind}:{rest}' must name each split once: write {form}")
    require_webdataset()
    notes_on: list[Clip] = []
    listed: dict[str, list[Shard]] = {}
    for split, pattern in patterns.items():
        listing = tar_patterns.shards_of(pattern)
        notes_on += [Clip(name, "", "train", None, why) for name, why in listing.left_out]
        listed[split] = listing.shards
    apart = kind == "tar-stream"
    shards, within = _split(listed, apart)
    stem = os.path.commonprefix([shard.name for shard in shards["train"]])  # noqa: RUF071 - letters, not folders
    name = f"{kind}:{stem.rstrip('-_.0123456789') or 'shards'}"
    return StreamedCorpus(name, shards, apart=apart, within=within, notes_on=notes_on)


def _split(listed: dict[str, list[Shard]], apart: bool) -> tuple[dict[str, list[Shard]], bool]:
    """The shards of each split, and whether each of them holds all splits."""
    if "" not in listed:
        return _named(listed), False
    shards = listed[""]
    by_name = {split: [s for s in shards if split_of_folder(s.name) == split] for split in SPLITS}
    if apart and all(by_name.values()) and sum(map(len, by_name.values())) == len(shards):
        return by_name, False
    if apart and len(shards) < 3:
        return dict.fromkeys(SPLITS, shards), True
    return _dealt(shards), False


def require_webdataset() -> None:
    """Raises DataError where the library is not installed."""
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise DataError(
            "corpora of tar shards need the library webdataset. Remedy: pip install 'codecbench[webdataset]'."
        ) from error


def _named(listed: dict[str, list[Shard]]) -> dict[str, list[Shard]]:
    shards = {split: listed[split] for split in SPLITS}
    seen: dict[str, str] = {}
    for split, members in shards.items():
        for shard in members:
            if shard.address in seen:
                raise DataError(
                    f"tar shards: {shard.address} is in {seen[shard.address]} and in {split}. "
                    "Remedy: name shards of their own for each split."
                )
            seen[shard.address] = split
    return shards


def _dealt(shards: list[Shard]) -> dict[str, list[Shard]]:
    """One shard for test and one for validation, by a hash of the names; the others train."""
    if len(shards) < 3:
        raise DataError(
            f"tar shards: {len(shards)} shard(s) cannot be divided into train, validation and test. "
            "Remedy: give three or more, or name the splits: train=PATTERN,validation=PATTERN,test=PATTERN."
        )
    order = sorted(shards, key=lambda shard: hashlib.sha256(shard.name.encode()).digest())
    held_out = {order[0].address, order[1].address}
    train = [shard for shard in shards if shard.address not in held_out]
    return {"train": train, "validation": [order[1]], "test": [order[0]]}
