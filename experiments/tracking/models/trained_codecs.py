"""Load the trained codec of a run, from its folder or from the tracking store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS, is_trained
from experiments.tracking.addresses import store_uri
from experiments.tracking.models import logged_model
from experiments.tracking.named_runs import RunError, label_of, the_run
from experiments.tracking.schema import Tag
from experiments.tracking.store import Store


class TrainedCodec(NamedTuple):
    """A codec, ready to encode and decode, and the digest of the file of its weights (`sha256:...`)."""

    codec: Codec
    digest: str


def load_codec(
    run: str | Path, tracking_uri: str | None = None, *, runs_folder: str | Path = "runs"
) -> Codec:
    """The trained codec of a run, ready to encode and decode.

    run: the folder of a training or its `codec.safetensors`; or the id or hash of a run in the tracking
    store, or the beginning of one, as `codecbench runs STUDY` lists them. Its weights are then taken from
    `runs_folder`, else from the store.

    `codec.encode(audio)` takes float32 audio [clips, samples] on [-1, 1] at `codec.sample_rate` Hz and gives
    codes [clips, frames, streams]; `codec.decode(codes)` gives audio of whole frames.

    Raises RunError where there is no such run or it has no weights, DamagedFile for weights that are not as
    they were written, and TrackingError.

    Examples:
        >>> load_codec("runs/of-another-day/codec.safetensors")
        Traceback (most recent call last):
        experiments.tracking.named_runs.RunError: there is no file runs/of-another-day/codec.safetensors; ...
    """
    return load_trained(run, tracking_uri, runs_folder=runs_folder).codec


def load_trained(
    run: str | Path, tracking_uri: str | None = None, *, runs_folder: str | Path = "runs"
) -> TrainedCodec:
    """The trained codec of a run, as `load_codec` takes it, with the digest of its weights."""
    path = Path(run)
    if path.is_dir():
        path /= WEIGHTS
    if path.is_file():
        return _read(path)
    if path.suffix or len(path.parts) > 1:
        raise RunError(f"there is no file {path}; give the folder of a training, or the hash of a run")
    return _of_store(str(run), store_uri(tracking_uri), Path(runs_folder))


def _of_store(given: str, uri: str, runs_folder: Path) -> TrainedCodec:
    run, study = the_run(given, uri)
    folder = runs_folder / run.data.tags.get(Tag.TRAINING_HASH, "-")
    stages = run.data.params.get("evaluate.stages", "")
    if is_trained(folder):
        return _first(_read(folder / WEIGHTS), stages)
    with tempfile.TemporaryDirectory() as temporary:
        weights = logged_model.fetch(Store(uri, study), run.info.run_id, Path(temporary))
        if weights is None:
            raise RunError(
                f"{label_of(run)}, run {run.info.run_id}, has no weights, neither in {runs_folder} nor in "
                f"the store; train it by `codecbench run {study} --force --only ROW`"
            )
        return _first(_read(weights), stages)


def _first(trained: TrainedCodec, stages: str) -> TrainedCodec:
    """What a run has evaluated: the first `stages` of those that were trained, if that is a number."""
    return trained._replace(codec=trained.codec.prefix(int(stages))) if stages.isdecimal() else trained


def _read(path: Path) -> TrainedCodec:
    tensors, metadata = tensor_files.read(path)
    try:
        config: Mapping[str, Any] = json.loads(metadata["config"])
        sizes, choice = dict(config["backbone"]), config["quantizer"]
    except (KeyError, ValueError, TypeError):
        raise RunError(f"{path} does not say what it holds; give `{WEIGHTS}` of a run") from None
    backbone = backbones.get(sizes.pop("name"), sizes)
    checked = quantizers.validate(choice["name"], choice["options"])
    codec = model.build(
        backbone, lambda dim: quantizers.build(choice["name"], checked, dim=dim), config["seed"]
    )
    codec.load_state_dict(tensors)
    # The digest is that in the file, if it is from a version that wrote one.
    return TrainedCodec(codec.eval().requires_grad_(False), tensor_files.digest(tensors, metadata))
