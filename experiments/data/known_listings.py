"""Listings of large corpora that are known from before: folders are looked at, not the files in them.

To list a million files and ask for the size and time of each takes minutes, on network disks the better part
of an hour, and each process of each job did so. A folder's time of modification changes when a file in it is
added, removed or renamed, so unchanged folders hold the files of before. What is not noticed, in corpora of
`LARGE` files and more, is a file that is overwritten in place, unless it is one of `SAMPLED` that are
looked at.
"""

import contextlib
import hashlib
import json
import stat
from pathlib import Path
from typing import NamedTuple

from experiments.common.atomic_files import write_text
from experiments.data.sources.folder import AudioFiles

LARGE = 20_000  # files; of fewer, all are looked at each time
SAMPLED = 1_000
SETTLED_SECONDS = 2.0  # before the listing; what changed later may change again without another time
_FORMAT = 1


class Known(NamedTuple):
    """What was known of a corpus when it was listed."""

    fingerprint: str
    splits: frozenset[str]


def recall(root: Path, spec: str) -> Known | None:
    """What is known of the corpus `spec`, if nothing has changed since it was remembered below `root`."""
    try:
        values = json.loads(_record(root, spec).read_text(encoding="utf-8"))
        if values["format"] != _FORMAT or any(_state(Path(path)) != state for path, state in values["seen"]):
            return None
        return Known(str(values["fingerprint"]), frozenset(values["splits"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(root: Path, spec: str, corpus: AudioFiles, fingerprint: str, began: float) -> None:
    """Remember a large corpus whose listing `began` at that time, in seconds since 1970. Does nothing where
    it is small, or was changing."""
    if len(corpus.entries) < LARGE:
        return
    files = [entry.path for entry in corpus.entries]
    with contextlib.suppress(OSError):  # then it is listed again
        sampled = files[:: max(1, len(files) // SAMPLED)]
        seen = [(str(path), _state(path)) for path in (*corpus.watched, *sampled)]
        if any(changed > (began - SETTLED_SECONDS) * 1e9 for _, (_, changed) in seen):
            return
        path = _record(root, spec)
        path.parent.mkdir(parents=True, exist_ok=True)
        values = {"fingerprint": fingerprint, "splits": sorted(corpus.listed_splits()), "seen": seen}
        write_text(path, json.dumps({"format": _FORMAT, "spec": spec, **values}))


def _state(path: Path) -> list[int]:
    """Size and time of modification; of a folder, the time alone."""
    status = path.stat()
    return [0 if stat.S_ISDIR(status.st_mode) else status.st_size, status.st_mtime_ns]


def _record(root: Path, spec: str) -> Path:
    # A path in it may be relative to the working folder.
    digest = hashlib.sha256(f"{Path.cwd()}\n{spec}".encode("utf-8", "backslashreplace")).hexdigest()
    return root / "listings" / f"files-{digest[:32]}.json"
