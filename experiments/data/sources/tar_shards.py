"""Corpora of WebDataset tar shards: which shards a specification names, and what lies in one."""

import hashlib
import json
import os
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlparse

from experiments.data.cache import SPLITS
from experiments.data.corpus import Clip, DataError, Progress
from experiments.data.decoding import read_bytes
from experiments.data.sources.folder import READABLE

REVISION = 1  # raise when the same shards would give other clips
SCHEMES = ("http", "https", "gs", "hf", "ais")  # not `pipe`: a study file must not run commands
FORM = "webdataset:PATTERN or webdataset:train=PATTERN,validation=PATTERN,test=PATTERN"


@dataclass(frozen=True)
class Shard:
    """One tar file. address: a path or URL. state: its size and, from a web server, its ETag."""

    address: str
    state: str

    @property
    def remote(self) -> bool:
        return urlparse(self.address).scheme in SCHEMES

    @property
    def name(self) -> str:
        return Path(urlparse(self.address).path if self.remote else self.address).name


@dataclass(frozen=True)
class Sample:
    """What a shard holds under one key. audio: the contents of an audio file, or None, and `why`."""

    name: str
    speaker: str
    audio: bytes | None
    why: str = ""


class TarCorpus:
    """Training shards that are streamed, and validation and test shards that are prepared like files."""

    synthetic = False
    native_rate: int | None = None
    licence = "not stated"
    notes = "Training audio is streamed from tar shards."

    def __init__(self, patterns: dict[str, str]) -> None:
        require_webdataset()
        self.shards = _dealt(_listed(patterns[""])) if "" in patterns else _named(patterns)
        names = [shard.name for shard in self.shards["train"]]
        stem = os.path.commonprefix(names)  # noqa: RUF071 - letters, not folders
        self.name = f"webdataset:{stem.rstrip('-_.0123456789') or 'shards'}"

    def fingerprint(self) -> str:
        """Of what is prepared: the training shards are not."""
        return self._digest("validation", "test")

    @cached_property
    def training_fingerprint(self) -> str:
        """Of the list of training shards: names, order, sizes, and ETags of a web server."""
        return self._digest("train")

    def _digest(self, *splits: str) -> str:
        listed = [(split, shard.name, shard.state) for split in splits for shard in self.shards[split]]
        return hashlib.sha256(json.dumps([REVISION, listed]).encode()).hexdigest()

    def __len__(self) -> int:
        return 0  # not known before all is read

    def fetch(self, cache: Path, progress: Progress | None) -> None:
        """Nothing to fetch: shards are read where they are."""

    def clips(self, sample_rate: int) -> Iterator[Clip]:
        """The clips of validation and test."""
        for split in ("validation", "test"):
            for shard in self.shards[split]:
                for sample in samples_of(shard, split):
                    if sample.audio is None:
                        yield Clip(sample.name, sample.speaker, split, None, sample.why)
                        continue
                    for piece in read_bytes(sample.audio, sample_rate):
                        name = sample.name + piece.suffix
                        yield Clip(name, sample.speaker, split, piece.audio, piece.note)


def parse(rest: str) -> TarCorpus:
    """The corpus of `rest`, one pattern or three named ones. Raises DataError, also where a web server does
    not answer."""
    parts = re.split(r"(?:^|,)(train|validation|test)=", rest)
    if not rest or (len(parts) > 1 and parts[0]):
        raise DataError(f"corpus 'webdataset:{rest}' lacks its shards: write {FORM}")
    if len(parts) == 1:
        return TarCorpus({"": rest})
    patterns = dict(zip(parts[1::2], parts[2::2], strict=True))
    missing = [name for name in SPLITS if not patterns.get(name)]
    if missing or len(parts) != 2 * len(SPLITS) + 1:
        raise DataError(f"corpus 'webdataset:{rest}' must name each split once: write {FORM}")
    return TarCorpus(patterns)


def require_webdataset() -> None:
    """Raises DataError where the library is not installed."""
    try:
        import webdataset  # noqa: F401
    except ImportError as error:
        raise DataError(
            "webdataset: corpora need the library of that name. Remedy: pip install 'codecbench[webdataset]'."
        ) from error


def samples_of(shard: Shard, split: str) -> Iterator[Sample]:
    """What lies in `shard`, in order. A damaged part is a sample without audio.

    Raises DataError where the shard cannot be read at all, or stops coming: that may be otherwise the next
    time, so a training must not go on without it.
    """
    from webdataset.gopen import gopen
    from webdataset.tariterators import group_by_keys, tar_file_expander

    try:
        with gopen(shard.address) if shard.remote else Path(shard.address).open("rb") as stream:
            files = tar_file_expander([{"url": shard.address, "stream": stream}])
            for members in group_by_keys(files):
                yield _sample(shard, split, members)
    except (tarfile.TarError, EOFError, ValueError) as error:
        if shard.remote:
            raise _unreachable(shard.address, error) from error
        reason = str(error.args[0]).partition(" @ ")[0]  # after it, webdataset names the stream
        yield Sample(shard.name, "", None, f"the shard is damaged from there on: {reason}")
    except OSError as error:
        raise _unreachable(shard.address, error) from error


def _sample(shard: Shard, split: str, members: dict[str, object]) -> Sample:
    name = f"{shard.name}/{members['__key__']}"
    told: object = {}
    if isinstance(text := members.get("json"), bytes):
        try:
            told = json.loads(text)
        except ValueError as error:
            return Sample(name, "", None, f"its json cannot be read: {error}")
    values = told if isinstance(told, dict) else {}
    speaker = str(values.get("speaker") or "")
    if values.get("split") not in (None, "", split):
        return Sample(name, speaker, None, f"its json says split {values['split']!r}, its shard {split!r}")
    for suffix, content in sorted(members.items()):
        if f".{suffix.rpartition('.')[2]}" in READABLE and isinstance(content, bytes):
            return Sample(name, speaker, content)
    return Sample(name, speaker, None, f"no audio in it (looked for {', '.join(sorted(READABLE))})")


def _named(patterns: dict[str, str]) -> dict[str, list[Shard]]:
    shards = {split: _listed(patterns[split]) for split in SPLITS}
    seen: dict[str, str] = {}
    for split, members in shards.items():
        for shard in members:
            if shard.address in seen:
                raise DataError(
                    f"webdataset: {shard.address} is in {seen[shard.address]} and in {split}. "
                    "Remedy: name shards of their own for each split."
                )
            seen[shard.address] = split
    return shards


def _dealt(shards: list[Shard]) -> dict[str, list[Shard]]:
    """One shard for test and one for validation, by a hash of the names; the others train."""
    if len(shards) < 3:
        raise DataError(
            f"webdataset: {len(shards)} shard(s) cannot be dealt out to train, validation and test. "
            "Remedy: give three or more, or name the splits: train=PATTERN,validation=PATTERN,test=PATTERN."
        )
    order = sorted(shards, key=lambda shard: hashlib.sha256(shard.name.encode()).digest())
    held_out = {order[0].address, order[1].address}
    train = [shard for shard in shards if shard.address not in held_out]
    return {"train": train, "validation": [order[1]], "test": [order[0]]}


def _listed(pattern: str) -> list[Shard]:
    """The shards of a pattern: braces, and for files * and ?, are expanded."""
    from braceexpand import braceexpand

    try:
        addresses = list(braceexpand(pattern))
    except ValueError as error:
        raise DataError(f"webdataset: unbalanced braces in {pattern!r}") from error
    scheme = urlparse(pattern).scheme
    if ("://" in pattern and scheme not in SCHEMES) or scheme == "pipe":
        raise DataError(f"webdataset: {pattern!r}: known are files and {', '.join(SCHEMES)}")
    if scheme in SCHEMES:
        if "*" in pattern:
            raise DataError(
                f"webdataset: {pattern!r}: shards on a server cannot be listed. "
                "Remedy: write {000000..000099} in place of *."
            )
        with ThreadPoolExecutor(16, thread_name_prefix="shards") as pool:
            return [
                Shard(address, state)
                for address, state in zip(addresses, pool.map(_state, addresses), strict=True)
            ]
    found: list[Path] = []
    for address in addresses:
        path = Path(address).expanduser()
        wild = any(letter in address for letter in "*?")
        root = Path(path.anchor) if path.anchor else Path()
        matched = sorted(root.glob(str(path.relative_to(path.anchor)))) if wild else [path]
        if not matched or not matched[0].is_file():
            raise DataError(f"webdataset: no such shard: {address!r}")
        found += [file for file in matched if file.is_file()]
    return [Shard(str(path), str(path.stat().st_size)) for path in dict.fromkeys(found)]


def _state(address: str) -> str:
    """Size and ETag of a URL; of other services than web servers, nothing is asked."""
    if urlparse(address).scheme not in ("http", "https"):
        return ""
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return f"{answer.headers.get('Content-Length', '')} {answer.headers.get('ETag', '')}".strip()
    except (urllib.error.URLError, OSError) as error:
        raise _unreachable(address, error) from error


def _unreachable(address: str, error: Exception) -> DataError:
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return DataError(
        f"webdataset: cannot read {address}: {reason}. "
        "Remedy: see that it is there and can be reached, then give the same command again."
    )
