"""Checkpoints of the released WavTokenizer and Q2D2 models."""

import logging
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import quantizers
from codec.backbones.contract import BackboneError
from codec.backbones.vocos import OVERLAP
from codec.backbones.wavtokenizer import WavTokenizerBackbone
from codec.model import Codec
from codec.weight_norm import fold_weight_norm

log = logging.getLogger(__name__)

ENCODER = "feature_extractor.encodec.encoder.model."
QUANTIZER = "feature_extractor.encodec.quantizer."
CODEBOOK = QUANTIZER + "vq.layers.0._codebook."
Q2D2 = QUANTIZER + "quantizer.vq."
UNUSED = {
    "feature_extractor.encodec.decoder.": "a second decoder that the model never calls",
    QUANTIZER + "quantizer.project_": "projections that the model never calls",
    "multiperioddisc.": "the multi-period discriminator",
    "multiresddisc.": "the multi-resolution discriminator",
    "dac.": "the DAC discriminator",
    "dacdiscriminator.": "the DAC discriminator in its loss",
    "melspec_loss.": "mel filters of the loss",
}
GRIDS = {"hexagon": "hex", "rectangle": "rect", "rhombic": "rhombic"}  # released names to ours


class CheckpointError(ValueError):
    """A checkpoint cannot be read; the message names the file and says what to do."""


def load_wavtokenizer(
    checkpoint: str | Path,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    quantizer: str | None = None,
    levels: Sequence[int] | None = None,
    fold: bool = True,
) -> Codec:
    """The codec of a released WavTokenizer or Q2D2 checkpoint, in eval mode.

    checkpoint: a Lightning checkpoint, or a plain state dictionary, in torch's format or safetensors.
    config: its YAML file, or what that holds. Sizes and strides come from the weights; the file is checked
        against them, and adds the sample rate (24 kHz without it) and the grid of a Q2D2 model.
    quantizer, levels: of a Q2D2 model, whose weights tell neither: one of the names q2d2-*-released, and the
        points along each channel.
    fold: fold weight normalisation and the first of the equivalent conditions into the weights, for
        inference. False keeps both, for training on.

    Logs which parts of the file it leaves out. Raises CheckpointError if keys are missing or unexpected, or
    contradict each other.
    """
    path = Path(checkpoint)
    weights = _Weights(path, _read(path))
    settings = _settings(config)
    weights.leave_out_unused()
    backbone = _backbone(weights, settings, fold)
    encoder, decoder = backbone.build()
    _load(encoder, _encoder_state(weights, len(backbone.strides)), path)
    _load(decoder, _decoder_state(weights, backbone), path)
    bottleneck = _quantizer(weights, backbone.dim, settings, quantizer, levels)
    weights.refuse_rest()
    codec = Codec(encoder, bottleneck, decoder, sample_rate=backbone.sample_rate, hop=backbone.hop)
    return (fold_weight_norm(codec) if fold else codec).eval()


def load_wavtokenizer_parts(
    checkpoint: str | Path, backbone: WavTokenizerBackbone
) -> tuple[nn.Module, nn.Module]:
    """The encoder and decoder of a released WavTokenizer or Q2D2 checkpoint, to be trained on with another
    quantizer: as `backbone` builds them, with weight normalisation. The grid of a Q2D2 model plays no part.

    A `backbone` without conditions takes the first of the equivalent ones. Raises CheckpointError, also with
    the sizes that the weights have where `backbone` has others.
    """
    path = Path(checkpoint)
    weights = _Weights(path, _read(path))
    weights.leave_out_unused()
    own = _backbone(weights, _Settings(sample_rate=backbone.sample_rate), fold=not backbone.conditions)
    own = replace(own, dropout=backbone.dropout)
    sizes = {name: value for name, value in asdict(own).items() if value != getattr(backbone, name)}
    if sizes:
        text = ", ".join(
            f"{name}: {list(v) if isinstance(v, tuple) else v}" for name, v in sorted(sizes.items())
        )
        raise CheckpointError(
            f"{path} does not have the sizes of the backbone; name the backbone that it belongs to, or give "
            f"its options {{{text}}}"
        )
    encoder, decoder = own.build()
    _load(encoder, _encoder_state(weights, len(own.strides)), path)
    _load(decoder, _decoder_state(weights, own), path)
    for key in [key for key in weights.tensors if key.startswith(QUANTIZER)]:
        del weights.tensors[key]
    weights.refuse_rest()
    return encoder, decoder


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}; correct the path")
    content: Any
    if path.suffix == ".safetensors":
        import safetensors
        from safetensors.torch import load_file

        try:
            content = load_file(path)
        except safetensors.SafetensorError as error:
            raise CheckpointError(f"{path} is not a safetensors file: {error}") from None
    else:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        except Exception as error:  # of many classes where the file is something else
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise CheckpointError(
                f"{path} cannot be read as plain weights ({reason}). If you trust its source, load it with "
                f"weights_only=False, and save its state_dict as a safetensors file"
            ) from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(v, Tensor) for v in content.values())
    ):
        raise CheckpointError(f"{path} holds no state dictionary")
    return content


@dataclass
class _Weights:
    """Weights by key; those taken are gone."""

    path: Path
    tensors: dict[str, Tensor]

    def take(self, key: str) -> Tensor:
        if key not in self.tensors:
            raise CheckpointError(f"{self.path} lacks {key}: it is not a WavTokenizer or Q2D2 checkpoint")
        return self.tensors.pop(key).float()

    def peek(self, key: str) -> Tensor:
        value = self.take(key)
        self.tensors[key] = value
        return value

    def count(self, pattern: str) -> int:
        """Numbers 0, 1, ... found in keys that begin with `pattern`, whose one group is the number."""
        return len({found[1] for key in self.tensors if (found := re.match(pattern, key))})

    def leave_out_unused(self) -> None:
        for prefix, what in UNUSED.items():
            keys = [key for key in self.tensors if key.startswith(prefix)]
            values = sum(self.tensors.pop(key).numel() for key in keys)
            if keys:
                log.info("%s: left out %s (%s*, %d values)", self.path, what, prefix, values)

    def refuse_rest(self) -> None:
        if self.tensors:
            names = sorted(self.tensors)
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise CheckpointError(f"{self.path} has keys that no released model has: {shown}")


@dataclass
class _Settings:
    """What the released YAML file says and the weights don't."""

    sample_rate: int = 24_000
    strides: tuple[int, ...] | None = None
    grid: str | None = None
    levels: tuple[int, ...] | None = field(default=None)


def _settings(config: str | Path | Mapping[str, Any] | None) -> _Settings:
    if config is None:
        return _Settings()
    name = "config"
    if isinstance(config, str | Path):
        import yaml

        name = str(config)
        try:
            config = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise CheckpointError(f"{name} cannot be read: {error}") from None
    try:
        assert isinstance(config, Mapping)
        model = config["model"]["init_args"] if "model" in config else config
        features = model["feature_extractor"]["init_args"]
        grid, levels = features.get("vq_type"), features.get("codebook_dim")
        return _Settings(
            sample_rate=int(model.get("sample_rate", 24_000)),
            strides=tuple(int(stride) for stride in features["dowmsamples"]),  # spelled so in the files
            grid=GRIDS.get(grid, grid),
            levels=None if levels is None else (7,) * levels if isinstance(levels, int) else tuple(levels),
        )
    except (AssertionError, KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError(
            f"{name} is not the configuration of a released WavTokenizer or Q2D2 model"
        ) from None


def _backbone(weights: _Weights, settings: _Settings, fold: bool) -> WavTokenizerBackbone:
    """Sizes that follow from the shapes of the weights."""
    stages = weights.count(re.escape(ENCODER) + r"(\d+)\.shortcut\.")
    lstm = f"{ENCODER}{1 + 3 * stages}.lstm."
    directions = [_direction(weights, f"{ENCODER}{3 + 3 * index}") for index in range(stages)]
    strides = tuple(direction.shape[-1] // 2 for direction in reversed(directions))
    if settings.strides not in (None, strides):
        raise CheckpointError(
            f"{weights.path} was trained with strides {list(strides)}, its configuration says "
            f"{list(settings.strides or ())}: the two do not belong together"
        )
    hop = (len(weights.peek("head.out.bias")) - 2) // OVERLAP
    if hop != math.prod(strides):
        raise CheckpointError(
            f"{weights.path}: strides {list(strides)} make {math.prod(strides)} samples per frame, but the "
            f"head makes {hop}"
        )
    window = weights.take("head.istft.window")
    if not torch.allclose(window, torch.hann_window(OVERLAP * hop), atol=1e-6):
        raise CheckpointError(
            f"{weights.path}: head.istft.window is not a Hann window of {OVERLAP * hop} samples"
        )
    scales = weights.tensors.get("backbone.norm.scale.weight")
    hidden, width = weights.peek("backbone.convnext.0.pwconv1.weight").shape
    try:
        return WavTokenizerBackbone(
            sample_rate=settings.sample_rate,
            strides=strides,
            encoder_width=len(_direction(weights, f"{ENCODER}0")),
            lstm_layers=weights.count(re.escape(lstm) + r"weight_ih_l(\d+)"),
            dim=weights.peek("backbone.embed.weight").shape[1],
            width=width,
            hidden=hidden,
            blocks=weights.count(r"backbone\.convnext\.(\d+)\."),
            conditions=0 if fold or scales is None else len(scales),
        )
    except BackboneError as error:
        raise CheckpointError(f"{weights.path}: {error}") from None


def _direction(weights: _Weights, prefix: str) -> Tensor:
    """The unnormalised weight of the encoder's convolution at `prefix`; it stays in `weights`."""
    names = ("weight_v", "parametrizations.weight.original1", "weight")
    keys = [f"{prefix}.conv.conv.{name}" for name in names]
    return weights.peek(next((key for key in keys if key in weights.tensors), keys[0]))


def _encoder_state(weights: _Weights, stages: int) -> dict[str, Tensor]:
    """State of `SEANetEncoder`."""
    convolutions = {"stem": "0", "project_out": f"{3 + 3 * stages}"}
    for index in range(stages):
        first = 1 + 3 * index
        convolutions[f"stages.{index}.residual.narrow"] = f"{first}.block.1"
        convolutions[f"stages.{index}.residual.widen"] = f"{first}.block.3"
        convolutions[f"stages.{index}.residual.shortcut"] = f"{first}.shortcut"
        convolutions[f"stages.{index}.down"] = f"{first + 2}"
    state = {}
    for ours, theirs in convolutions.items():
        prefix = f"{ENCODER}{theirs}.conv.conv."
        target = f"{ours}.conv.parametrizations.weight.original"
        state[f"{ours}.conv.bias"] = weights.take(prefix + "bias")
        if prefix + "weight" in weights.tensors:  # folded already
            state[target + "1"] = weights.take(prefix + "weight")
            state[target + "0"] = state[target + "1"].norm(dim=(1, 2), keepdim=True)
            continue
        old = prefix + "weight_v" in weights.tensors
        magnitude, direction = ("g", "v") if old else ("original0", "original1")
        prefix += "weight_" if old else "parametrizations.weight."
        state[target + "0"] = weights.take(prefix + magnitude)
        state[target + "1"] = weights.take(prefix + direction)
    prefix = f"{ENCODER}{1 + 3 * stages}.lstm."
    for key in [key for key in weights.tensors if key.startswith(prefix)]:
        state["lstm." + key.removeprefix(prefix)] = weights.take(key)
    return state


def _decoder_state(weights: _Weights, backbone: WavTokenizerBackbone) -> dict[str, Tensor]:
    """State of `VocosDecoder`."""
    modules = {"embed": "embed", "norm_out": "final_layer_norm", "context.2.norm": "pos_net.2.norm"}
    for index in (0, 1, 3, 4):
        for part in ("norm1", "conv1", "norm2", "conv2"):
            modules[f"context.{index}.{part}"] = f"pos_net.{index}.{part}"
    modules["context.5"] = "pos_net.5"
    for index in range(backbone.blocks):
        for ours, theirs in (("depthwise", "dwconv"), ("expand", "pwconv1"), ("contract", "pwconv2")):
            modules[f"convnext.{index}.{ours}"] = f"convnext.{index}.{theirs}"
    state = {}
    for part in ("weight", "bias"):
        for ours, theirs in modules.items():
            state[f"{ours}.{part}"] = weights.take(f"backbone.{theirs}.{part}")
        attention = [
            weights.take(f"backbone.pos_net.2.{name}.{part}") for name in ("q", "k", "v", "proj_out")
        ]
        attention = [value.flatten(1) if part == "weight" else value for value in attention]
        state[f"context.2.query_key_value.{part}"] = torch.cat(attention[:3])
        state[f"context.2.project_out.{part}"] = attention[3]
        state[f"project_out.{part}"] = weights.take(f"head.out.{part}")
    norms = {
        "norm_in": "norm",
        **{f"convnext.{i}.norm": f"convnext.{i}.norm" for i in range(backbone.blocks)},
    }
    for ours, theirs in norms.items():
        for part, conditional in (("weight", "scale"), ("bias", "shift")):
            key = f"backbone.{theirs}.{conditional}.weight"
            if key in weights.tensors:
                value = weights.take(key)
                state[f"{ours}.{part}"] = value if backbone.conditions else value[0]
            else:
                state[f"{ours}.{part}"] = weights.take(f"backbone.{theirs}.{part}")
    for index in range(backbone.blocks):
        state[f"convnext.{index}.scale"] = weights.take(f"backbone.convnext.{index}.gamma")
    return state


def _quantizer(
    weights: _Weights, dim: int, settings: _Settings, name: str | None, levels: Sequence[int] | None
) -> quantizers.Quantizer:
    if CODEBOOK + "embed" in weights.tensors:
        if name not in (None, "vq") or levels is not None:
            raise CheckpointError(f"{weights.path} holds a codebook: give neither quantizer nor levels")
        return _codebook(weights, dim)
    state = {}
    for part in ("weight", "bias"):
        state[f"project_in.{part}"] = weights.take(f"{Q2D2}project_in.0.{part}")
        state[f"project_out.{part}"] = weights.take(f"{Q2D2}project_out.{part}")
    name = name or (f"q2d2-{settings.grid}-released" if settings.grid else None)
    levels = levels or settings.levels
    channels = len(state["project_in.bias"])
    if name is None or levels is None:
        names = ", ".join(f"q2d2-{grid}-released" for grid in GRIDS.values())
        raise CheckpointError(
            f"{weights.path} is a Q2D2 model of {channels} channels and does not name its grid and levels: "
            f"give its configuration, or quantizer (one of {names}) and levels"
        )
    if len(levels) != channels:
        raise CheckpointError(
            f"{weights.path} has {channels} channels, levels {list(levels)} are {len(levels)}"
        )
    bottleneck = quantizers.create(name, dim=dim, levels=tuple(levels))
    _load(bottleneck, state, weights.path)
    return bottleneck


def _codebook(weights: _Weights, dim: int) -> quantizers.Quantizer:
    """Vector quantization as released: codes as wide as the features, commitment 1, decay 0.99."""
    codes = weights.take(CODEBOOK + "embed")
    bottleneck = quantizers.create("vq", dim=dim, codebook_size=len(codes), commitment=1.0, decay=0.99)
    state = {
        "codebooks.codes": codes.unsqueeze(0),
        "codebooks.sums": weights.take(CODEBOOK + "embed_avg").unsqueeze(0),
        "codebooks.counts": weights.take(CODEBOOK + "cluster_size").unsqueeze(0),
        "codebooks.started": weights.take(CODEBOOK + "inited").bool().all(),
    }
    _load(bottleneck, state, weights.path)
    return bottleneck


def _load(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit {type(module).__name__}: {error}") from None
