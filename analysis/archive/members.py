"""Members of an archive: read as bytes within limits, and checked each by its kind before any is stored."""

from __future__ import annotations

import re
import stat
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.archive import count_table, score_table
from analysis.archive.files import CHECKS, MEMBER_BYTES, SMALL, Points, curves, texts
from analysis.archive.format import (
    ARTIFACTS,
    COUNTS,
    HISTORIES,
    LISTING,
    LISTING_BYTES,
    SCORES,
    TEXTS,
    ArchiveError,
    Listing,
    not_ours,
    parse,
)
from experiments.tracking import artifacts

if TYPE_CHECKING:
    import pyarrow as pa

GROWTH = 100  # times that a larger one may grow when it is unpacked; ours grow by up to 30
_AUDIO = re.compile(rf"{artifacts.AUDIO}/[^/\\\x00-\x1f]{{1,200}}")


@dataclass
class Archive:
    """An archive that passed every check: its runs, their learning curves, scores and files."""

    listing: Listing
    curves: Mapping[str, Points]
    _zip: zipfile.ZipFile
    _members: Mapping[str, list[str]] = field(default_factory=dict)
    _scores: Mapping[str, pa.Table] = field(default_factory=dict)
    _counts: Mapping[str, count_table.Counts] = field(default_factory=dict)
    _texts: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)

    def names(self, run_id: str) -> list[str]:
        """The artifacts that it has of a run."""
        own = [member.removeprefix(_folder(run_id)) for member in self._members.get(run_id, ())]
        shared = {artifacts.SCORES: self._scores, artifacts.HISTOGRAMS: self._counts}
        return [*own, *self._texts.get(run_id, ()), *(name for name, of in shared.items() if run_id in of)]

    def write_files(self, run_id: str, folder: Path) -> None:
        """Write the artifacts of a run into `folder`."""
        for member in self._members.get(run_id, ()):
            target = folder / member.removeprefix(_folder(run_id))
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(self._zip.read(member))
        for name, content in self._texts.get(run_id, {}).items():
            (folder / name).write_bytes(content)
        if run_id in self._scores:
            score_table.write(self._scores[run_id], folder / artifacts.SCORES)
        if run_id in self._counts:
            count_table.write(self._counts[run_id], folder / artifacts.HISTOGRAMS)


def _folder(run_id: str) -> str:
    """How the members begin that are files of one run."""
    return f"{ARTIFACTS}/{run_id}/"


def opened(path: Path) -> zipfile.ZipFile:
    """The zip at `path`. Raises ArchiveError."""
    if not path.exists():
        raise ArchiveError(f"no archive at {path}; give a file of `codecbench export`")
    if not path.is_file():
        raise ArchiveError(f"{path} is not a file; give one of `codecbench export`")
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be read: {error.strerror}; check its permissions") from None
    except Exception as error:  # of a library, for bytes that may be anything
        raise ArchiveError(not_ours(str(path), "the zip", str(error) or type(error).__name__)) from None


def checked(archive: zipfile.ZipFile, where: str, progress: Callable[[int, int], None]) -> Archive:
    """All of an archive, after every member was read and checked. progress: members checked, and of how many.

    Raises ArchiveError.
    """
    infos = [info for info in archive.infolist() if not info.is_dir()]
    _check_sizes(infos, archive, where)
    reading = _Reading(archive, where, {info.filename: info for info in infos})
    listing = parse(reading.read(LISTING, LISTING_BYTES), where)
    runs = {entry.id for entry in listing.runs}
    together = {SCORES: score_table.unpacked, COUNTS: count_table.unpacked, TEXTS: texts}
    together = together if listing.format > 1 else {}
    members: dict[str, list[str]] = {}
    for info in infos:
        if info.filename not in (LISTING, HISTORIES, *together):
            members.setdefault(reading.owner(info.filename, runs), []).append(info.filename)
    whole = Archive(
        listing,
        reading.within(HISTORIES, lambda content: curves(content, runs)),
        archive,
        members,
        *(reading.within(name, partial(check, runs=runs)) for name, check in together.items()),
    )
    done = 0
    for names in members.values():
        for name in names:
            reading.within(name, CHECKS[_kind(name)])
            done += 1
            progress(done, len(infos))
    for entry in listing.runs:
        names = whole.names(entry.id)
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ArchiveError(not_ours(where, _folder(entry.id) + twice[0], "is there twice"))
        for name in artifacts.needed(entry.tags) if entry.finished else ():
            if name not in names:
                raise ArchiveError(
                    not_ours(where, _folder(entry.id) + name, "is not there, and the run finished")
                )
    return whole


@dataclass(frozen=True)
class _Reading:
    """Reads members, and says in which of them something was wrong."""

    archive: zipfile.ZipFile
    where: str
    infos: Mapping[str, zipfile.ZipInfo]

    def read(self, member: str, most: int = MEMBER_BYTES) -> bytes:
        if member not in self.infos:
            raise ArchiveError(not_ours(self.where, member, "is not there"))
        if self.infos[member].file_size > most:
            raise ArchiveError(not_ours(self.where, member, f"is larger than {most // 2**20} MiB"))
        try:
            return self.archive.read(member)
        except Exception as error:  # of a library, for bytes that may be anything
            raise ArchiveError(not_ours(self.where, member, str(error) or type(error).__name__)) from None

    def within(self, member: str, check: Callable[[bytes], Any]) -> Any:
        content = self.read(member)
        try:
            return check(content)
        except Exception as error:  # as above; each check raises ValueError for what it does not take
            raise ArchiveError(not_ours(self.where, member, str(error) or type(error).__name__)) from None

    def owner(self, member: str, runs: Collection[str]) -> str:
        """The run that a member belongs to, whose place and name are those of an export."""
        first, _, rest = member.partition("/")
        run, _, name = rest.partition("/")
        if first != ARTIFACTS or run not in runs or _kind(member) not in CHECKS:
            raise ArchiveError(not_ours(self.where, member, "is not a file of a run in the listing"))
        if "/" in name and not _AUDIO.fullmatch(name):
            raise ArchiveError(not_ours(self.where, member, "has a name that no file of a run has"))
        return run


def _check_sizes(infos: Sequence[zipfile.ZipInfo], archive: zipfile.ZipFile, where: str) -> None:
    """Before anything is unpacked: kinds of members, and how large each says that it is."""
    seen: set[str] = set()
    for info in infos:
        name = info.filename
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise ArchiveError(not_ours(where, name, "is a link, or another special file"))
        if info.flag_bits & 1:
            raise ArchiveError(not_ours(where, name, "is encrypted"))
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ArchiveError(not_ours(where, name, "is packed in a way that export does not use"))
        if name in seen:
            raise ArchiveError(not_ours(where, name, "is there twice"))
        if info.file_size > MEMBER_BYTES:
            raise ArchiveError(not_ours(where, name, f"is larger than {MEMBER_BYTES // 2**20} MiB"))
        if info.file_size > SMALL and info.file_size > GROWTH * info.compress_size:
            raise ArchiveError(not_ours(where, name, f"would grow by more than {GROWTH} times"))
        seen.add(name)
    size = Path(archive.filename or "").stat().st_size
    if sum(info.file_size for info in infos) > SMALL * 16 + GROWTH * size:
        raise ArchiveError(not_ours(where, "the zip", f"would grow by more than {GROWTH} times"))


def _kind(member: str) -> str:
    """By what a file is checked: its name, or that it is audio."""
    name = member.split("/", 2)[-1]
    return "audio" if name.startswith(f"{artifacts.AUDIO}/") and name.endswith(".flac") else name
