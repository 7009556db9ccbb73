"""Files of tensors: safetensors with a digest of what is in them, written atomically, read as plain data.

Nothing in a file is ever executed.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.common.atomic_files import replacing

if TYPE_CHECKING:
    from torch import Tensor

DIGEST = "digest"  # key of the metadata; files from before there was one lack it, and are taken as they are


class DamagedFile(ValueError):
    """A file that is not as it was written; the message says what is wrong."""


def write(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str], keep: Path | None = None
) -> None:
    """Write `tensors` and `metadata` to `path`, at once. keep: where the file that was there stays.

    Raises OSError when the disk does not take them.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    described = {**metadata, DIGEST: digest(plain, metadata)}
    try:
        with replacing(path, keep) as partial:
            partial.touch()
            mode = partial.stat().st_mode  # as the user's mask wants it; safetensors lets only the owner read
            save_file(plain, partial, described)
            partial.chmod(mode)
    except SafetensorError as error:  # what it makes of an OSError, whose number stands in the text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(path)) from error


def read(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors and metadata of a file.

    Raises DamagedFile where it is not as it was written, and OSError where it cannot be read at all.
    """
    from safetensors import safe_open

    with path.open("rb"):  # whatever goes wrong from here on is the content's fault
        pass
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except Exception as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    written = metadata.pop(DIGEST, None)
    if written is not None and written != digest(tensors, metadata):
        raise DamagedFile(f"{path} is damaged: its content has changed since it was written")
    return tensors, metadata


def fault_of_format(path: Path) -> str:
    """Why `path` cannot be a file of weights, judged by its first bytes, or nothing.

    By its name, a file is safetensors (a length of 8 bytes, then a JSON object), or what `torch.save` writes:
    a zip archive, or a pickle of older versions. Neither torch nor safetensors is imported.
    """
    if not path.is_file():
        return "it is not there" if not path.exists() else "it is not a file"
    try:
        with path.open("rb") as file:
            first = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        return error.strerror or str(error)
    if not first:
        return "it is empty"
    if path.suffix == ".safetensors":
        header = int.from_bytes(first[:8], "little")
        good = first[8:] == b"{" and header <= size - 8
        return "" if good else "it is no safetensors file, or only a part of one"
    good = first.startswith((b"PK\x03\x04", b"\x80\x02"))  # a zip archive; pickle, protocol 2
    return "" if good else "it is not a file of torch.save"


def digest(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and values of tensors, and of the metadata."""
    import torch

    total = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        total.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        total.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return f"sha256:{total.hexdigest()}"
