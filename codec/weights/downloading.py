"""Download of released files: with progress, resumed where an attempt stopped, checked by size and sha256."""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from codec.weights.catalogue import Release, ReleasedFile, WeightsError

Progress = Callable[[str, int, int], None]  # what is done, bytes done, bytes in all
ATTEMPTS = 3
PATIENCE = 1.0  # seconds before the second attempt, twice that before the third
TIMEOUT = (10.0, 60.0)  # seconds to connect, seconds without a byte
CHUNK = 1 << 16


def download(release: Release, folder: Path, progress: Progress | None = None) -> None:
    """Fetch the files of `release` that `folder` lacks. Raises WeightsError; what has arrived is kept for the
    next attempt, unless it is wrong."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in release.files:
            target = folder / file.name
            if not (target.exists() and problem(target, file) is None):
                _fetch(release, file, target, progress)
    except OSError as error:
        raise WeightsError(
            f"{folder} cannot be written ({error.strerror or error}). Make room there, or set "
            "CODECBENCH_CACHE to another directory"
        ) from None


def problem(path: Path, file: ReleasedFile) -> str | None:
    """What is wrong with `path` as a copy of `file`, in words; None if it is one."""
    if not path.is_file():
        return f"there is no {path}"
    size = path.stat().st_size
    if size < file.size:
        return f"{path} is cut short: {size:,} of {file.size:,} bytes"
    if size > file.size or _sha256(path) != file.sha256:
        return f"{path} has another checksum than the released file"
    return None


def _fetch(release: Release, file: ReleasedFile, target: Path, progress: Progress | None) -> None:
    import requests

    partial = target.with_name(target.name + ".part")
    failure = ""
    for attempt in range(ATTEMPTS):
        time.sleep(attempt * PATIENCE)
        try:
            if failure := _receive(file, partial, progress):
                continue
            break
        except requests.HTTPError as error:
            failure = str(error)
            break
        except requests.exceptions.ChunkedEncodingError:
            failure = "the connection ended early"
        except requests.RequestException as error:
            failure = f"no connection, {type(error).__name__}"
    if not failure and (failure := problem(partial, file) or ""):
        partial.unlink(missing_ok=True)
        raise WeightsError(
            f"{file.url} does not have the released content (wrong checksum) and was removed. Try again; if "
            f"it fails again, get the files from {release.source} and set {release.variable} to their folder"
        )
    if failure:
        raise WeightsError(
            f"cannot download {file.url} ({failure}). Try again to resume; or get the files from "
            f"{release.source} and give their folder: codecbench weights get {release.name} --from FOLDER"
        )
    partial.replace(target)


def _receive(file: ReleasedFile, partial: Path, progress: Progress | None) -> str:
    """Append what is missing; what went wrong, or nothing."""
    import requests

    have = partial.stat().st_size if partial.exists() else 0
    if have >= file.size:
        return ""
    headers = {"Range": f"bytes={have}-"} if have else {}
    with requests.get(file.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        answer.raise_for_status()
        if answer.status_code != 206:  # the server does not resume
            have = 0
        with partial.open("ab" if have else "wb") as target:
            for chunk in answer.iter_content(CHUNK):
                target.write(chunk)
                have += len(chunk)
                if progress:
                    progress(f"downloading {file.name}", have, file.size)
    return "" if have >= file.size else "the connection ended early"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
