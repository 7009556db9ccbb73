"""Folders of shared models: weights, their configuration and a model card, as `codecbench push` writes them.

A folder from elsewhere is read as plain data: safetensors, and a configuration that is checked against a
schema. The sizes in it are compared with the tensors before anything of these sizes is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from codec import backbones
from experiments.common import tensor_files
from experiments.common.atomic_files import write_text
from experiments.common.run_folder import WEIGHTS
from experiments.tracking.named_runs import RunError

CONFIG = "config.json"
CARD = "README.md"
FILES = (CONFIG, CARD, WEIGHTS)  # all that a shared folder has
LARGEST_TEXT = 1 << 20  # bytes of a configuration or a card

_MOST = 1 << 24  # of any number of a configuration
_COUNTS = ("blocks", "lstm_layers")  # numbers of parts, each of which has tensors

Text = Annotated[str, Field(max_length=500)]
Plain = str | int | float | bool | None
Value = Plain | list[Plain] | list[list[Plain]]


class Choice(BaseModel):
    """A quantizer: its name and all its options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    options: dict[str, Value]


class ModelConfig(BaseModel):
    """The configuration of a shared model.

    digest: of the weights in the folder. source_digest: of the run's own file of weights, by which coded
    files name their codec. stages: how many first stages were evaluated; None: all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["codecbench.model/1"] = "codecbench.model/1"
    label: Text
    study: Text
    seed: Annotated[int, Field(ge=0, le=2**63)]
    run_hash: Text
    training_hash: Text
    sample_rate: Annotated[int, Field(ge=1000, le=192_000)]
    quantizer: Choice
    backbone: dict[str, Value]
    stages: Annotated[int | None, Field(ge=1, le=1024)] = None
    digest: Text
    source_digest: Text


def is_shared(folder: Path) -> bool:
    """Whether `folder` has the configuration of a shared model."""
    return (folder / CONFIG).is_file()


def write(folder: Path, weights: Path, card: str, values: Mapping[str, Any]) -> ModelConfig:
    """Write the model of the run's file `weights` into `folder`, with its card.

    values: the fields of `ModelConfig` but for the digests. Of the metadata of the weights only backbone,
    quantizer and seed are kept: a run's may have names of files. Raises DamagedFile, OSError.
    """
    tensors, metadata = tensor_files.read(weights)
    source_digest = tensor_files.digest(tensors, metadata)
    kept = {key: values[key] for key in ("backbone", "quantizer", "seed")}
    described = {"config": json.dumps(kept)}
    digest = tensor_files.digest(tensors, described)
    config = ModelConfig.model_validate({**values, "digest": digest, "source_digest": source_digest})
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / CARD, card)
    tensor_files.write(folder / WEIGHTS, tensors, described)
    write_text(folder / CONFIG, config.model_dump_json(indent=1) + "\n")  # last: it says that all is there
    return config


def read_config(folder: Path) -> ModelConfig:
    """The configuration of a shared model. Raises RunError for one that is none."""
    path = folder / CONFIG
    try:
        if path.stat().st_size > LARGEST_TEXT:
            raise RunError(f"{path} is too large for the configuration of a model")
        return ModelConfig.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise RunError(
            f"{path} is not the configuration of a codecbench model: {key}: {first['msg']}. Give a folder or "
            "a repository that `codecbench push` has written"
        ) from None


def check_sizes(path: Path, sizes: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> None:
    """See that the file at `path` holds tensors for the backbone that its configuration asks for.

    The backbone is built without memory for its values. Raises RunError.
    """
    for key, value in sizes.items():
        numbers = value if isinstance(value, list | tuple) else [value]
        if len(numbers) > len(tensors):
            raise RunError(f"{path}: {key} does not fit the tensors of the file")
        for number in numbers:
            most = len(tensors) if key in _COUNTS else _MOST
            if isinstance(number, int | float) and abs(number) > most:
                raise RunError(f"{path}: {key} {number} does not fit the tensors of the file")
    rest = dict(sizes)
    with torch.device("meta"):
        encoder, decoder = backbones.get(rest.pop("name"), rest).build()
    wanted = {
        f"{part}.{name}": tuple(value.shape)
        for part, module in (("encoder", encoder), ("decoder", decoder))
        for name, value in module.state_dict().items()
    }
    of_backbone = ("encoder.", "decoder.")
    given = {name: tuple(value.shape) for name, value in tensors.items() if name.startswith(of_backbone)}
    if wanted != given:
        name = min(set(wanted.items()) ^ set(given.items()))[0]
        raise RunError(f"{path}: {name} is not of the shape that the configuration asks for")
