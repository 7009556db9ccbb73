"""SoundStream as released in Lyra 2: a causal convolutional encoder and decoder (arXiv 2107.03312).

Source of the sizes: github.com/google/lyra, release 1.3.2. Differs from the paper by depthwise-separable
residual units, grouped convolutions, and leaky ReLUs.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from codec.backbones.causal_convolution import CausalConvolution, CausalTransposedConvolution, ResidualUnit
from codec.backbones.contract import Backbone, BackboneError, Reach, check_counts
from codec.backbones.streaming import StreamMemory

SLOPE = 0.3  # of all leaky ReLUs
OUTER_TAPS = 4  # strides that the kernels at the audio's side span
TAPS = 2  # strides that the kernels of the stages span
INNER_KERNEL = 3  # frames that the kernels at the features' side span
UNIT_KERNEL = 3
Layer = CausalConvolution | CausalTransposedConvolution | ResidualUnit


@dataclass(frozen=True, kw_only=True)
class SoundStreamBackbone(Backbone):
    """The encoder and decoder of SoundStream as in Lyra 2; the defaults are the released sizes.

    strides: stride of the first convolution, then of the end of each stage, in the order of the encoder;
        their product is the hop.
    width: channels of the first stage; each following stage doubles them.
    groups: one number per stage: groups of the grouped layers in its units and of the convolution that ends
        it. The last number is also that of the convolutions next to the features.
    dilations: dilations of the residual units of each stage.
    """

    sample_rate: int = 16_000
    strides: tuple[int, ...] = (16, 5, 2, 2)
    width: int = 64
    groups: tuple[int, ...] = (1, 2, 4)
    dilations: tuple[int, ...] = (1, 3, 9)
    dim: int = 64

    def __post_init__(self) -> None:
        check_counts(self)
        for name in ("strides", "groups", "dilations"):
            value = getattr(self, name)
            if isinstance(value, list):  # as study files give it
                value = tuple(value)
                object.__setattr__(self, name, value)
            counts = value if isinstance(value, tuple) else ()
            if not counts or any(type(item) is not int or item < 1 for item in counts):
                raise BackboneError(f"{name} must be a list of positive integers, not {value!r}")
        if len(self.strides) < 2:
            raise BackboneError(
                "strides needs at least two entries, for the first convolution and a stage, not "
                f"{self.strides!r}"
            )
        if len(self.groups) != len(self.strides) - 1:
            raise BackboneError(
                f"groups needs one entry per stage: {len(self.strides)} strides make "
                f"{len(self.strides) - 1} stages, and {list(self.groups)} has {len(self.groups)}"
            )
        for stage, (groups, channels) in enumerate(zip(self.groups, self.widths, strict=False), 1):
            if channels % groups:
                raise BackboneError(
                    f"{groups} groups do not divide the {channels} channels of stage {stage}; "
                    "change groups or width"
                )
        if self.dim % self.groups[-1]:
            raise BackboneError(
                f"dim must be a multiple of the last groups, {self.groups[-1]}, not {self.dim}"
            )

    @property
    def hop(self) -> int:
        return math.prod(self.strides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage, and of the frames behind the last."""
        return tuple(self.width * 2**stage for stage in range(len(self.strides)))

    def build(self) -> tuple[nn.Module, nn.Module]:
        """A new encoder and decoder, their weights drawn from torch's global generator."""
        return SoundStreamEncoder(self), SoundStreamDecoder(self)


class EncoderStage(nn.Module):
    """Residual units, then a strided convolution to the next width."""

    def __init__(self, sizes: SoundStreamBackbone, stage: int) -> None:
        super().__init__()
        stride, groups = sizes.strides[stage + 1], sizes.groups[stage]
        inputs, outputs = sizes.widths[stage : stage + 2]
        self.units = _units(sizes, stage)
        self.convolution = CausalConvolution(
            inputs, outputs, TAPS * stride, stride, groups=groups, slope=SLOPE
        )

    def forward(self, signal: Tensor, memory: StreamMemory | None) -> Tensor:
        for unit in self.units:
            signal = unit(signal, memory)
        return self.convolution(signal, memory)


class DecoderStage(nn.Module):
    """A transposed convolution to the width of the encoder's stage, then residual units."""

    def __init__(self, sizes: SoundStreamBackbone, stage: int) -> None:
        super().__init__()
        stride, groups = sizes.strides[stage + 1], sizes.groups[stage]
        outputs, inputs = sizes.widths[stage : stage + 2]
        self.convolution = CausalTransposedConvolution(
            inputs, outputs, TAPS * stride, stride, groups=groups, slope=SLOPE
        )
        self.units = _units(sizes, stage)

    def forward(self, signal: Tensor, memory: StreamMemory | None) -> Tensor:
        signal = self.convolution(signal, memory)
        for unit in self.units:
            signal = unit(signal, memory)
        return signal


def _units(sizes: SoundStreamBackbone, stage: int) -> nn.ModuleList:
    width, groups = sizes.widths[stage], sizes.groups[stage]
    return nn.ModuleList(
        ResidualUnit(width, kernel_size=UNIT_KERNEL, dilation=dilation, groups=groups, slope=SLOPE)
        for dilation in sizes.dilations
    )


class _Network(nn.Module):
    """An encoder or decoder whose layers can take and give weights in the order of torch's convolutions."""

    def _layers(self) -> Iterator[tuple[str, Layer]]:
        for name, module in self.named_modules():
            if isinstance(module, Layer):
                yield name, module

    def _past(self, step: Fraction) -> Reach:
        """The past that all layers see together; step: of the input, in frames."""
        past = Fraction(0)
        for _, layer in self._layers():
            past += layer.past * step
            if not isinstance(layer, ResidualUnit):
                step *= Fraction(layer.block.inputs, layer.block.outputs)
        return Reach(math.ceil(past), 0)

    def kernels(self) -> dict[str, Tensor]:
        """Weights and biases of all convolutions, in the order of torch's."""
        return {
            f"{name}.{key}": value for name, layer in self._layers() for key, value in layer.kernels().items()
        }

    def load_kernels(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the like of what `kernels` returns. Raises BackboneError if names or sizes differ."""
        own = {key: tuple(value.shape) for key, value in self.kernels().items()}
        given = {key: tuple(value.shape) for key, value in tensors.items()}
        if different := sorted(key for key in {*own, *given} if own.get(key) != given.get(key)):
            key = different[0]
            raise BackboneError(
                f"weights do not fit this {type(self).__name__}: {key} is {given.get(key, 'absent')} where "
                f"{own.get(key, 'nothing')} is expected ({len(different)} such); use the sizes that they "
                "belong to"
            )
        for name, layer in self._layers():
            prefix = f"{name}."
            layer.load_kernels(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )


class SoundStreamEncoder(_Network):
    """A strided convolution, stages that end in one, and a last convolution to `dim` channels."""

    def __init__(self, sizes: SoundStreamBackbone) -> None:
        super().__init__()
        first, width, groups = sizes.strides[0], sizes.widths[-1], sizes.groups[-1]
        self.stem = CausalConvolution(1, sizes.width, OUTER_TAPS * first, first)
        self.stages = nn.ModuleList(EncoderStage(sizes, stage) for stage in range(len(sizes.groups)))
        self.project_out = CausalConvolution(width, sizes.dim, INNER_KERNEL, groups=groups, slope=SLOPE)
        self._hop = sizes.hop

    @property
    def reach(self) -> Reach:
        """In frames, see `Reach`."""
        return self._past(Fraction(1, self._hop))

    def forward(self, audio: Tensor, memory: StreamMemory | None = None) -> Tensor:
        """Features [batch, samples / hop, dim] of `audio` [batch, samples], a multiple of the hop.

        memory: of the stream that `audio` continues; it then remembers this piece. None begins in silence.
        """
        signal = self.stem(audio.unsqueeze(2), memory)
        for stage in self.stages:
            signal = stage(signal, memory)
        return self.project_out(signal, memory).float()


class SoundStreamDecoder(_Network):
    """The mirror of `SoundStreamEncoder`."""

    def __init__(self, sizes: SoundStreamBackbone) -> None:
        super().__init__()
        first, width, groups = sizes.strides[0], sizes.widths[-1], sizes.groups[-1]
        self.project_in = CausalConvolution(sizes.dim, width, INNER_KERNEL, groups=groups)
        self.stages = nn.ModuleList(
            DecoderStage(sizes, stage) for stage in reversed(range(len(sizes.groups)))
        )
        self.head = CausalTransposedConvolution(sizes.width, 1, OUTER_TAPS * first, first, slope=SLOPE)
        with torch.no_grad():  # begin near silence: a loud random start costs the first hundred steps
            self.head.weight.mul_(0.1)

    @property
    def reach(self) -> Reach:
        """In frames, see `Reach`."""
        return self._past(Fraction(1))

    def forward(self, features: Tensor, memory: StreamMemory | None = None) -> Tensor:
        """Audio [batch, frames * hop] of `features` [batch, frames, dim]; memory: as in the encoder."""
        signal = self.project_in(features, memory)
        for stage in self.stages:
            signal = stage(signal, memory)
        return self.head(signal, memory).squeeze(2).float()
