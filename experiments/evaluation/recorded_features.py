"""Features of a trained codec, recorded for quantizers to be tried on without the codec."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import quantizers
from codec import backbones, model
from experiments.common import tensor_files
from quantizers.checks.sources import Recorded

if TYPE_CHECKING:
    from torch import Tensor

    from codec.model import Codec
    from experiments.data.dataset import Shards, Split

TRAIN_FRAMES = 100_000


def unquantized(config: Mapping[str, Any], weights: Path) -> Codec:
    """The codec of a run without a quantizer. config: as logged with the run; weights: its safetensors."""
    sizes = dict(config["backbone"])
    backbone = backbones.get(sizes.pop("name"), sizes)
    codec = model.build(backbone, lambda dim: quantizers.create("none", dim=dim), seed=0)
    codec.load_state_dict(tensor_files.read(weights)[0])
    return codec.eval()


def record(codec: Codec, shards: Shards, progress: Callable[[int, int], None]) -> Recorded:
    """All frames of the test split, and the first `TRAIN_FRAMES` of the training clips in random order."""
    import torch

    train, test = shards.split("train"), shards.split("test")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0)).tolist()
    seconds = train.seconds[order].cumsum()
    few = order[: int((seconds < TRAIN_FRAMES / codec.frame_rate).sum()) + 1]
    total = len(few) + len(test)
    learned = _frames(codec, train, few, lambda done: progress(done, total))
    heard = _frames(codec, test, list(range(len(test))), lambda done: progress(len(few) + done, total))
    lengths = torch.tensor([len(frames) for frames in heard])
    return Recorded(
        torch.cat(learned)[:TRAIN_FRAMES],
        torch.cat(heard),
        torch.repeat_interleave(torch.arange(len(heard)), lengths),
    )


def _frames(codec: Codec, split: Split, clips: list[int], progress: Callable[[int], None]) -> list[Tensor]:
    import torch

    frames = []
    with torch.inference_mode():
        for number, clip in enumerate(clips, 1):
            frames.append(codec.features(torch.from_numpy(split.clip(clip)).unsqueeze(0))[0].clone())
            progress(number)
    return frames
