"""Load the trained codec of a run, from its folder or from the tracking store."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

import quantizers
from codec import backbones, model
from codec.model import Codec
from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS, is_trained
from experiments.common.tensor_files import DamagedFile
from experiments.tracking.addresses import store_uri
from experiments.tracking.models import logged_model, shared_folder
from experiments.tracking.named_runs import RunError, label_of, the_run
from experiments.tracking.schema import Tag
from experiments.tracking.store import Store
from experiments.tracking.stored import StoredRun

STAGES = "evaluate.stages"  # parameter of a run: first stages that were evaluated


class TrainedCodec(NamedTuple):
    """A codec, ready to encode and decode, and the digest of the file of its weights (`sha256:...`)."""

    codec: Codec
    digest: str


def load_codec(
    run: str | Path, tracking_uri: str | None = None, *, runs_folder: str | Path = "runs"
) -> Codec:
    """The trained codec of a run, ready to encode and decode.

    run: the folder of a training or its `codec.safetensors`, or a folder of `codecbench pull`; or the id or
    hash of a run in the tracking store, or the beginning of one, as `codecbench runs STUDY` lists them. Its
    weights are then taken from `runs_folder`, else from the store.

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
    if path.is_dir() and shared_folder.is_shared(path):
        return _of_shared(path)
    if path.is_dir():
        path /= WEIGHTS
    if path.is_file():
        return _read(path)
    if path.suffix or len(path.parts) > 1:
        raise RunError(f"there is no file {path}; give the folder of a training, or the hash of a run")
    return _of_store(str(run), store_uri(tracking_uri), Path(runs_folder))


def of_run(run: StoredRun, study: str, uri: str, runs_folder: Path) -> TrainedCodec:
    """The trained codec of a run of the store. Raises RunError, DamagedFile, TrackingError."""
    with weights_of(run, study, uri, runs_folder) as weights:
        return first_stages(_read(weights), run.data.params.get(STAGES, ""))


@contextmanager
def weights_of(run: StoredRun, study: str, uri: str, runs_folder: Path) -> Iterator[Path]:
    """The file of a run's weights, in `runs_folder` or as a copy from the store. Raises RunError."""
    folder = runs_folder / run.data.tags.get(Tag.TRAINING_HASH, "-")
    if is_trained(folder):
        yield folder / WEIGHTS
        return
    with tempfile.TemporaryDirectory() as temporary:
        weights = logged_model.fetch(Store(uri, study), run.info.run_id, Path(temporary))
        if weights is None:
            raise RunError(
                f"{label_of(run)}, run {run.info.run_id}, has no weights, neither in {runs_folder} nor in "
                f"the store; train it by `codecbench run {study} --force --only ROW`"
            )
        yield weights


def _of_shared(folder: Path) -> TrainedCodec:
    """The codec in a folder of a shared model."""
    config = shared_folder.read_config(folder)
    path = folder / WEIGHTS
    if not path.is_file():
        raise RunError(f"{folder} has no {WEIGHTS}; pull the model again")
    try:
        tensors, metadata = tensor_files.read(path)
        if tensor_files.digest(tensors, metadata) != config.digest:
            raise RunError(f"{path} is not the file that {shared_folder.CONFIG} describes; pull it again")
        shared_folder.check_sizes(path, config.backbone, tensors)
        described = {"quantizer": config.quantizer.model_dump(), "backbone": config.backbone}
        trained = TrainedCodec(_built(tensors, {**described, "seed": config.seed}), config.source_digest)
        return first_stages(trained, "" if config.stages is None else str(config.stages))
    except (RunError, DamagedFile):
        raise
    except Exception as error:  # of many classes: the content is anybody's
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise RunError(f"{folder} holds no codec that this version can build: {reason}") from None


def _of_store(given: str, uri: str, runs_folder: Path) -> TrainedCodec:
    run, study = the_run(given, uri)
    return of_run(run, study, uri, runs_folder)


def first_stages(trained: TrainedCodec, stages: str) -> TrainedCodec:
    """What a run has evaluated: the first `stages` of those that were trained, if that is a number."""
    return trained._replace(codec=trained.codec.prefix(int(stages))) if stages.isdecimal() else trained


def _read(path: Path) -> TrainedCodec:
    tensors, metadata = tensor_files.read(path)
    try:
        config: Mapping[str, Any] = json.loads(metadata["config"])
        needed = {"backbone": dict(config["backbone"]), **{key: config[key] for key in ("quantizer", "seed")}}
    except (KeyError, ValueError, TypeError):
        raise RunError(f"{path} does not say what it holds; give `{WEIGHTS}` of a run") from None
    # The digest is that in the file, if it is from a version that wrote one.
    return TrainedCodec(_built(tensors, needed), tensor_files.digest(tensors, metadata))


def _built(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Codec:
    """The codec of a configuration (`backbone`, `quantizer`, `seed`) with these weights."""
    sizes, choice = dict(config["backbone"]), config["quantizer"]
    backbone = backbones.get(sizes.pop("name"), sizes)
    checked = quantizers.validate(choice["name"], choice["options"])
    codec = model.build(
        backbone, lambda dim: quantizers.build(choice["name"], checked, dim=dim), config["seed"]
    )
    codec.load_state_dict(tensors)
    return codec.eval().requires_grad_(False)
