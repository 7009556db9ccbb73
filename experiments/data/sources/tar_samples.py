"""Samples of one tar shard, in order, and the parts of it that cannot be used."""

import json
import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, Protocol, Self
from urllib.parse import urlparse

from experiments.data import audio_files, formats
from experiments.data.corpus import DataError
from experiments.data.sources.layouts import Place, of_path
from experiments.data.splitting import SPLIT_NAMES, readable_name

SCHEMES = ("http", "https", "gs", "hf", "ais")  # not `pipe`: a study file must not run commands
TEXT = frozenset({".txt", ".json", ".jsonl", ".tsv", ".csv", ".md", ".html", ".trn", ".lab"})
TEXT_ONLY = "no audio in it, only text"  # which published archives have beside the audio
_NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)  # webdataset's: the key ends at the first dot
_META = re.compile(r"__[^/]*__($|/)")
_CHUNK = 2**20


@dataclass(frozen=True)
class Shard:
    """One tar file. address: a path or URL. state: its size and, from a web server, its ETag."""

    address: str
    state: str

    def samples(self, split: str) -> Iterator["Sample"]:
        """Samples of this shard, see `samples_of`."""
        return samples_of(self, split)

    @property
    def remote(self) -> bool:
        return urlparse(self.address).scheme in SCHEMES

    @property
    def name(self) -> str:
        return Path(urlparse(self.address).path if self.remote else self.address).name


@dataclass(frozen=True)
class Sample:
    """An audio file of a shard, or something that is none: then `audio` is None, and `why` says so.

    name: shard and key, with the rest of the file's name where several audio files share the key.
    member: name within the shard, with the ending in lower case; empty where it is no audio file.
    split: as its `.json` says, or empty.
    """

    name: str
    speaker: str
    audio: bytes | Path | None
    why: str = ""
    member: str = ""
    split: str = ""

    @property
    def place(self) -> Place:
        """Speaker and split, as its `.json` or else its path tells them."""
        place = of_path(self.member) or Place("", "")
        return Place(self.speaker or place.speaker, self.split or place.split)


class SampleShard(Protocol):
    """A part of a corpus that is read from its beginning to its end. name, state: what identifies it."""

    @property
    def name(self) -> str: ...

    @property
    def address(self) -> str: ...

    @property
    def state(self) -> str: ...

    def samples(self, split: str) -> Iterator[Sample]:
        """Its samples in order, the same each time. Raises DataError where it cannot be read."""
        ...


class _Member(NamedTuple):
    key: str
    rest: str  # of the name after the key and a dot, in lower case
    content: bytes


class _Damage(Exception):
    """Damage of a shard that came whole, in words."""


def samples_of(shard: Shard, split: str) -> Iterator[Sample]:
    """Samples of `shard`, in order. A damaged part is a sample without audio.

    split: of the shard; empty where it holds all.

    Raises DataError where the shard cannot be read at all, or stops coming: that may be otherwise the next
    time, so a training must not go on without it.
    """
    try:
        with ExitStack() as stack:
            yield from _samples(shard, split, _members(_open(shard, stack), shard.remote))
    except _Damage as damage:
        yield Sample(shard.name, "", None, f"the shard is {damage}")
    except (tarfile.TarError, EOFError, ValueError) as error:
        if shard.remote:
            raise unreachable(shard.address, error) from error
        yield Sample(shard.name, "", None, f"the shard is damaged from its beginning on ({error})")
    except OSError as error:
        raise unreachable(shard.address, error) from error


def unreachable(address: str, error: Exception) -> DataError:
    """The message of a shard that cannot be read now."""
    if getattr(error, "code", None) in (401, 403):
        return DataError(
            f"tar shards: {address} is not open to everybody: {error}. "
            "Remedy: accept the corpus's terms; on Hugging Face log in by `hf auth login` and write "
            "hf://datasets/OWNER/NAME/FILE instead of https://, or use datasets:OWNER/NAME."
        )
    why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
    return DataError(
        f"tar shards: cannot read {address}: {why}. "
        "Remedy: see that it is there and can be reached, then give the same command again."
    )


def _open(shard: Shard, stack: ExitStack) -> IO[bytes]:
    if shard.remote:
        from webdataset.gopen import gopen

        stream: IO[bytes] = stack.enter_context(gopen(shard.address))
        return stream
    descriptor = stack.enter_context(audio_files.opened(Path(shard.address)))
    return stack.enter_context(open(descriptor, "rb", closefd=False))


class _Header(tarfile.TarInfo):
    """A header that raises where it is none: tarfile takes an invalid one for the end of the file."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise _Damage(f"cut short at byte {tar.offset}: it lacks its end mark") from error
        except tarfile.HeaderError as error:
            left, _ = _rest(tar, tar.offset)
            raise _Damage(f"damaged from byte {tar.offset} on; {left} bytes not read ({error})") from error


def _rest(tar: tarfile.TarFile, place: int) -> tuple[int, bool]:
    """Bytes from `place` to the end of the stream, and whether some that were not read yet are not zero."""
    stream: Any = tar.fileobj
    count, filled = max(0, stream.tell() - place), False
    try:
        while chunk := stream.read(_CHUNK):
            count += len(chunk)
            filled = filled or chunk.strip(b"\0") != b""
    except (tarfile.TarError, EOFError, ValueError):  # compressed, and damaged there, too
        filled = True
    return count, filled


def _members(file: IO[bytes], remote: bool) -> Iterator[_Member]:
    """Files of a tar stream, in order.

    Raises _Damage for what lies behind damage, or behind the end mark; where a `remote` stream ends too
    early, what tarfile raises.
    """
    with tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as tar:
        place = 0
        try:
            for header in tar:
                place = header.offset
                matched = _NAME.fullmatch(readable_name(header.name))
                if header.isreg() and matched and not _META.match(header.name):
                    content = tar.extractfile(header)
                    assert content is not None, "a regular file has contents"
                    yield _Member(
                        readable_name(matched[1]), readable_name(matched[2]).lower(), content.read()
                    )
                    place = tar.offset
                tar.members = []  # type: ignore[attr-defined]
        except (tarfile.TarError, EOFError, ValueError) as error:
            if remote:
                raise
            count, _ = _rest(tar, place)
            raise _Damage(f"damaged from byte {place} on; {count} bytes not read ({error})") from error
        count, filled = _rest(tar, tar.offset)
        if filled:
            raise _Damage(f"read up to its end mark at byte {tar.offset}; {count} bytes are left")


def _samples(shard: Shard, split: str, members: Iterator[_Member]) -> Iterator[Sample]:
    """Samples of members that follow each other under one key, as webdataset groups them."""
    group: list[_Member] = []
    try:
        for member in members:
            if group and member.key != group[0].key:
                yield from _of_group(shard, split, group)
                group = []
            group.append(member)
    except (_Damage, tarfile.TarError, EOFError, ValueError):
        yield from _of_group(shard, split, group)  # what came before the damage is whole
        raise
    yield from _of_group(shard, split, group)


def _of_group(shard: Shard, split: str, group: list[_Member]) -> Iterator[Sample]:
    """A sample for each audio file of a key; what is audio and is not used, with the reason."""
    files: dict[str, bytes] = {}
    for member in group:
        if member.rest in files:
            name = f"{shard.name}/{member.key}.{member.rest}"
            yield Sample(name, "", None, "again under the same name, the first is used")
        files.setdefault(member.rest, member.content)
    audio = [rest for rest in files if formats.is_readable(PurePosixPath(f"x.{rest}"))]
    foreign = [rest for rest in files if formats.is_foreign(PurePosixPath(f"x.{rest}"))]
    key = f"{shard.name}/{group[0].key}" if group else ""
    for rest in audio:
        sample = _sample(key if len(audio) == 1 else f"{key}.{rest}", split, rest, files)
        yield replace(sample, member=f"{group[0].key}.{rest}")
    for rest in foreign:
        name = f"{key}.{rest}" if audio or len(foreign) > 1 else key
        yield Sample(name, "", None, formats.foreign_reason(PurePosixPath(f"x.{rest}")))
    if group and not audio and not foreign:
        only_text = all(PurePosixPath(f"x.{rest}").suffix in TEXT for rest in files)
        yield Sample(key, "", None, TEXT_ONLY if only_text else "no audio in it")


def _sample(name: str, split: str, rest: str, files: dict[str, bytes]) -> Sample:
    """The audio file `rest` with what the `.json` of its name, or else that of its key, says of it."""
    text = files.get(f"{rest.rpartition('.')[0]}.json", files.get("json"))
    told: object = {}
    if text is not None:
        try:
            told = json.loads(text)
        except (ValueError, RecursionError) as error:
            return Sample(name, "", None, f"its json cannot be read: {audio_files.reason(error)}")
    values = told if isinstance(told, dict) else {}
    speaker = str(values.get("speaker") or "")
    told_split = values.get("split")
    if split and told_split not in (None, "", split):
        return Sample(name, speaker, None, f"its json says split {told_split!r}, its shard {split!r}")
    return Sample(name, speaker, files[rest], split=SPLIT_NAMES.get(str(told_split or "").lower(), ""))


def listed(shard: Shard, endings: tuple[str, ...]) -> Iterator[tuple[str, bytes | None]]:
    """The name of each file in a shard on this disk, as `Sample.member` has it, and the contents of those
    with one of `endings`. Ends where the shard is damaged.

    Raises DataError where it cannot be read at all.
    """
    try:
        with tarfile.open(shard.address) as tar:  # passes over contents where nothing is compressed
            for header in tar:
                matched = _NAME.fullmatch(readable_name(header.name))
                if header.isreg() and matched:
                    name = f"{readable_name(matched[1])}.{readable_name(matched[2]).lower()}"
                    content = tar.extractfile(header) if name.endswith(endings) else None
                    yield name, content.read() if content else None
                tar.members = []  # type: ignore[attr-defined]
    except (tarfile.TarError, EOFError, ValueError):
        return  # said when its samples are read
    except OSError as error:
        raise unreachable(shard.address, error) from error
