"""Files of checkpoints by others: the state dictionary in them, read as plain weights and never as code.

A training framework wraps a model in layers of its own (Lightning, DistributedDataParallel, torch.compile, an
average of weights), each with a prefix on the keys, and saves more than the model. `read` finds the weights
of the model in such a file, under the keys that the model itself has.
"""

import logging
import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

log = logging.getLogger(__name__)

# Keys of a file below which a state dictionary may lie, the likeliest first.
HOLDERS = ("state_dict", "model_state_dict", "model", "generator", "codec", "net", "module", "weights")
_WRAPPERS = re.compile(r"(?<![^.])(?:_orig_mod|module)\.")  # of torch.compile and DistributedDataParallel
_AVERAGE = re.compile(r"(?:^|[._])ema(?:$|[._])|^averaged?_model", re.IGNORECASE)
_DISCRIMINATOR = re.compile(r"^(?:discriminators?|disc|mpd|mrd|msd)\.", re.IGNORECASE)
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")
_TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message names the file and says what to do."""


def read(path: Path, anchor: str) -> dict[str, Tensor]:
    """The weights of the model in `path`, by the model's own keys.

    path: a file of `torch.save` (of any version) or safetensors: a state dictionary, or a dictionary that
    holds one, such as a Lightning checkpoint. anchor: a key that every such model has; what stands before it
    in the file is taken off all keys. An average of weights (EMA) and discriminators beside the model are
    left out, and the log says so.

    Raises CheckpointError.
    """
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; correct the path")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    state = _state_dictionary(content)
    if state is None:
        keys = ", ".join(map(repr, list(content)[:8])) if isinstance(content, Mapping) and content else ""
        holding = f"it holds {keys}" if keys else f"it is a {type(content).__name__}"
        raise CheckpointError(f"{path} holds no state dictionary: {holding}")
    return _of_model(path, state, anchor)


def _read_safetensors(path: Path) -> Any:
    import safetensors
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except safetensors.SafetensorError as error:
        raise CheckpointError(f"{path} is not a safetensors file: {error}") from None


def _read_pickle(path: Path) -> Any:
    """What `torch.save` wrote: tensors, plain values and numpy's scalars; other classes are refused."""
    try:
        with torch.serialization.safe_globals(_numpy_scalars()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # of many classes where the file is something else
        text = _TERMINAL_CODES.sub("", str(error))
        if refused := _REFUSED.search(text):
            raise CheckpointError(
                f"{path} cannot be read as plain weights: it holds an object of {refused[1]}, which would "
                "run code as it is read. Get the weights alone from whoever released it: a file that "
                "torch.save or safetensors wrote of the model's state_dict()"
            ) from None
        reason = " ".join(text.splitlines()[0].split()) if text else type(error).__name__
        reason = reason.partition("This file can still be loaded")[0].strip()
        raise CheckpointError(
            f"{path} cannot be read as plain weights ({reason.rstrip('.')}): it may be damaged, or another "
            "kind of file; get it again"
        ) from None


def _numpy_scalars() -> list[Any]:
    """What a pickled numpy scalar refers to, under the names of numpy 1 and 2: numbers, no code."""
    kinds = [getattr(np.dtypes, name) for name in np.dtypes.__all__ if name != "ObjectDType"]
    scalar = np.float64(0).__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    return [np.dtype, *kinds, *((scalar, name) for name in names)]


def _state_dictionary(content: Any, depth: int = 2) -> dict[str, Tensor] | None:
    """The tensors by key in `content`, or below one of `HOLDERS` in it."""
    if not isinstance(content, Mapping) or not content:
        return None
    if all(isinstance(value, Tensor) for value in content.values()):
        return {str(key): value for key, value in content.items()}
    for name in HOLDERS if depth else ():
        if (state := _state_dictionary(content.get(name), depth - 1)) is not None:
            return state
    return None


def _of_model(path: Path, state: Mapping[str, Tensor], anchor: str) -> dict[str, Tensor]:
    plain = {_WRAPPERS.sub("", key): value for key, value in state.items()}
    prefixes = [key.removesuffix(anchor) for key in plain if key == anchor or key.endswith(f".{anchor}")]
    if not prefixes:
        return plain  # the model's reader says what it lacks
    prefix = min(prefixes, key=lambda each: (bool(_AVERAGE.search(each)), len(each), each))
    kept, averages, discriminators = {}, [], []
    for key, value in plain.items():
        name = key.removeprefix(prefix)
        if _AVERAGE.search(name):
            averages.append(value)
        elif _DISCRIMINATOR.match(name):
            discriminators.append(value)
        else:
            kept[name] = value
    if prefix:
        log.info("%s: took the prefix %r off the keys", path, prefix)
    for what, values in (("an average of the weights", averages), ("discriminators", discriminators)):
        if values:
            log.info("%s: left out %s (%d values)", path, what, _count(values))
    return kept


def _count(values: Iterable[Tensor]) -> int:
    return sum(value.numel() for value in values)
