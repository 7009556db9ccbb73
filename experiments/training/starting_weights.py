"""Starting weights of a codec: a backbone that was trained before, and a quantizer that starts from data."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from codec import backbones, checkpoints, weights
from codec.model import Codec
from experiments.common import run_folder, tensor_files
from experiments.common.tensor_files import DamagedFile
from experiments.data.dataset import Split
from experiments.data.streaming import TarSplit
from experiments.studies.runs import Run
from experiments.training import distributed
from experiments.training.checkpoint import CheckpointError
from experiments.training.state import below, check_fit

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FRAMES = 20_000  # that a quantizer starts from, at least
CROPS = 16  # encoded at once
SEED = 2**40  # added to that of the training, so that these crops are none of its first batches


def load_backbone(codec: Codec, run: Run, directory: Path) -> None:
    """Load encoder and decoder of `codec` from what `train.warm_start` of `run` names, if anything.

    directory: of all runs. A quantizer that was released with the weights takes its codebooks from them, too.

    Raises WeightsError, CheckpointError (of either kind) or BackboneError where the weights cannot be had or
    do not fit.
    """
    warm = run.train.warm_start
    start = run.warm_start()
    if start is not None:
        path = directory / start.training_hash / run_folder.WEIGHTS
        remedy = "start the same command again; they come from the tracking store then, or are trained again"
        _take_parts(codec, path, remedy)
    elif warm is not None and warm.weights is not None:
        backbone = backbones.get(run.backbone, run.backbone_options)
        encoder, decoder = backbones.load_released(warm.weights, backbone=backbone)
        codec.encoder.load_state_dict(encoder.state_dict())
        codec.decoder.load_state_dict(decoder.state_dict())
        if codec.quantizer.released == warm.weights:
            codec.quantizer.load_released(weights.part(weights.obtain(warm.weights), "bottleneck"))
    elif warm is not None and warm.checkpoint is not None:
        path = Path(warm.checkpoint)
        if path.name == run_folder.WEIGHTS:
            _take_parts(codec, path, "name another checkpoint, or the backbone that it belongs to")
        else:
            backbone = backbones.get(run.backbone, run.backbone_options)
            if not isinstance(backbone, backbones.WavTokenizerBackbone):
                raise CheckpointError(
                    f"{path} is read as a WavTokenizer or Q2D2 checkpoint, and the backbone {run.backbone} "
                    "cannot start from those. Remedy: set a backbone wavtokenizer-..., or give the "
                    f"{run_folder.WEIGHTS} of a run."
                )
            encoder, decoder = checkpoints.load_wavtokenizer_parts(path, backbone)
            codec.encoder.load_state_dict(encoder.state_dict())
            codec.decoder.load_state_dict(decoder.state_dict())


def _take_parts(codec: Codec, path: Path, remedy: str) -> None:
    """Load encoder and decoder from a file of a finished training."""
    try:
        tensors, _ = tensor_files.read(path)
        for part in ("encoder", "decoder"):
            check_fit(codec.get_submodule(part), below(tensors, f"{part}."))
    except (DamagedFile, OSError) as error:
        raise CheckpointError(f"{path} cannot be started from: {error}. Remedy: {remedy}.") from error
    for part in ("encoder", "decoder"):
        codec.get_submodule(part).load_state_dict(below(tensors, f"{part}."))


def start_from_data(codec: Codec, split: Split | TarSplit, run: Run, fabric: "Fabric") -> None:
    """Start the quantizer from features of training audio, as the encoder gives them before the first step.

    The crops depend on the seed alone, so every quantizer of a seed starts from the same frames. Of several
    processes, the first one starts and the others take over its weights.
    """
    codec.to(fabric.device)
    if codec.quantizer.streams and fabric.is_global_zero:
        codec.quantizer.start(features(codec, split, run))
    distributed.same_weights(fabric, codec.quantizer)


@torch.no_grad()
def features(codec: Codec, split: Split | TarSplit, run: Run) -> Tensor:
    """At least `FRAMES` frames [frames, dim], float32, that the encoder makes of seeded crops."""
    samples = round(run.train.crop_seconds * codec.sample_rate / codec.hop) * codec.hop
    device, training = next(iter(codec.parameters())).device, codec.training
    codec.eval()
    batches: list[Tensor] = []
    with closing(split.crops(samples=samples, batch_size=CROPS, seed=SEED + run.seed)) as crops:
        while sum(map(len, batches)) < FRAMES:
            audio = torch.from_numpy(crops.batch(len(batches))).to(device)
            batches.append(codec.features(audio).flatten(0, 1).float())
    codec.train(training)
    return torch.cat(batches)
