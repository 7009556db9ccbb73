"""The tensors of a release, from a folder, from the cache, or downloaded; converted once."""

import hashlib
import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from codec.weights.cache import cache_directory
from codec.weights.catalogue import Release, WeightsError, get
from codec.weights.downloading import Progress, download, problem

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)


def obtain(
    name: str,
    *,
    folder: str | Path | None = None,
    fetch: bool = False,
    progress: Progress | None = None,
) -> "dict[str, Tensor]":
    """The tensors of the release `name`, float32 on the CPU.

    folder: with its files, and nothing else is tried. Without it: converted ones in the cache, files in the
    folder that the release's environment variable names, files in the cache, and, with `fetch`, a download
    into the cache. progress: called with what is downloaded, bytes so far, bytes in all.

    Raises WeightsError: unknown, absent, cut short, of another checksum, no network, or a package is missing.
    """
    import torch

    release = get(name)
    tensors = None if folder is not None else _kept(release)
    if tensors is None:
        tensors = _converted(files(name, folder=folder, fetch=fetch, progress=progress), release)
        _keep(release, tensors)
    return {key: torch.from_numpy(value) for key, value in tensors.items()}


def files(
    name: str,
    *,
    folder: str | Path | None = None,
    fetch: bool = False,
    progress: Progress | None = None,
) -> Path:
    """A folder with the files of the release `name` themselves, checked; parameters and errors as in
    `obtain`."""
    release = get(name)
    named = folder if folder is not None else os.environ.get(release.variable)
    if named:
        if wrong := _problem(Path(named).expanduser(), release):
            origin = "" if folder is not None else f" (the folder in {release.variable})"
            raise WeightsError(
                f"{wrong}{origin}. Get the files of {release.name} from {release.source}: "
                f"{', '.join(file.name for file in release.files)}"
            )
        return Path(named).expanduser()
    downloads = _downloads(release)
    if fetch:
        download(release, downloads, progress)
    if wrong := _problem(downloads, release):
        raise WeightsError(
            f"the weights of {release.name} are not here: {wrong}. `codecbench weights get {release.name}` "
            f"downloads them ({release.size / 1e6:.1f} MB, {release.licence}) from {release.source}; with "
            "--from FOLDER it takes them from a folder"
        )
    return downloads


def present(name: str) -> bool:
    """Whether `obtain(name)` has something to read, without a download."""
    release = get(name)
    folder = os.environ.get(release.variable) or _downloads(release)
    return _converted_path(release).is_file() or all(
        (Path(folder).expanduser() / file.name).is_file() for file in release.files
    )


def absence(name: str) -> str:
    """Why `obtain(name)` has nothing to read, with a remedy; empty where it has. Nothing is downloaded."""
    if not present(name):
        try:
            files(name)
        except WeightsError as error:
            return str(error)
    return ""


def place(name: str) -> Path:
    """Where `obtain(name)` reads from: the converted file, or the folder with the released ones."""
    release = get(name)
    converted = _converted_path(release)
    if converted.is_file():
        return converted
    return Path(os.environ.get(release.variable) or _downloads(release)).expanduser()


def content_hash(name: str) -> str:
    """Identity of the tensors that `obtain(name)` returns, 64 hexadecimal digits, known without them."""
    return get(name).content_hash


def part(tensors: "Mapping[str, Tensor]", section: str) -> "dict[str, Tensor]":
    """Those of `tensors` below `section` (encoder, decoder, bottleneck), by the rest of their names.

    Raises WeightsError if there is no such section.
    """
    prefix = f"{section}."
    found = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    if not found:
        sections = ", ".join(dict.fromkeys(key.partition(".")[0] for key in tensors))
        raise WeightsError(f"released weights have no section {section!r}, only {sections or 'none'}")
    return found


def digest(tensors: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, shapes and float32 values, in the order of the names."""
    whole = hashlib.sha256()
    for key in sorted(tensors):
        value = np.ascontiguousarray(tensors[key], dtype="<f4")
        whole.update(f"{key} {list(value.shape)}\n".encode())
        whole.update(value.tobytes())
    return whole.hexdigest()


def _problem(folder: Path, release: Release) -> str | None:
    return next((text for file in release.files if (text := problem(folder / file.name, file))), None)


def _downloads(release: Release) -> Path:
    return cache_directory() / "weights" / release.name


def _converted(folder: Path, release: Release) -> dict[str, np.ndarray]:
    from codec.weights import soundstream

    tensors = soundstream.convert(folder)
    if digest(tensors) != release.content_hash:
        raise WeightsError(
            f"{folder}: the files are the released ones, but their conversion gives wrong numbers: pip "
            "install --upgrade tflite numpy, and report the fault if that does not help"
        )
    return tensors


def _converted_path(release: Release) -> Path:
    return cache_directory() / "weights" / f"{release.name}-{release.content_hash[:16]}.safetensors"


def _kept(release: Release) -> dict[str, np.ndarray] | None:
    """What was converted before, or None if there is none or it was damaged since."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    path = _converted_path(release)
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError):
        tensors = {}
    if digest(tensors) == release.content_hash:
        return tensors
    log.warning("%s is damaged and converted again", path)
    return None


def _keep(release: Release, tensors: Mapping[str, np.ndarray]) -> None:
    """Save what was converted, in one step; a cache that cannot be written costs the next start a second."""
    from safetensors.numpy import save

    path = _converted_path(release)
    about = {"licence": release.licence, "source": release.source}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{uuid.uuid4().hex}.part")
        partial.write_bytes(save(dict(tensors), metadata=about))
        partial.replace(path)
    except OSError as error:
        log.warning("%s cannot be written (%s); weights are converted at each start", path, error)
