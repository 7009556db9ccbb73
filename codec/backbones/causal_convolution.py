"""Causal layers of a codec that can stream: convolutions that see the present and the past alone.

Signals are laid out [batch, steps, channels]. On a CPU in float32 the layers are matrix products
(`codec.backbones.causal_products`), elsewhere torch's convolutions.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from codec.backbones.causal_products import BlockProducts, Blocks, ResidualProducts, products_pay
from codec.backbones.streaming import StreamMemory


class _BlockConvolution(nn.Module, ABC):
    """What strided and transposed convolutions share: blocks of steps in, blocks of steps out.

    weight: [groups, taps, steps in * channels in / groups, steps out * channels out / groups].
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        taps: int,
        steps_in: int,
        steps_out: int,
        groups: int,
        slope: float,
    ) -> None:
        super().__init__()
        self.inputs, self.outputs, self.groups, self.taps = inputs, outputs, groups, taps
        self.block = Blocks(steps_in, steps_out, slope)
        shape = (groups, taps, steps_in * inputs // groups, steps_out * outputs // groups)
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(outputs))
        _draw(self.weight, (1, 2), _gain(slope))

    def forward(self, signal: Tensor, memory: StreamMemory | None = None) -> Tensor:
        """[batch, steps, inputs] to [batch, steps * steps_out / steps_in, outputs]; steps must be a multiple
        of steps_in. memory: of the stream that `signal` continues; None begins in silence."""
        if memory is not None:
            signal = memory.extend(self, signal, self.past)
            return self(signal)[:, (self.taps - 1) * self.block.outputs :]
        if products_pay(signal):
            return BlockProducts.apply(signal, self.weight, self.bias, self.block)
        active = signal if self.block.slope == 1 else functional.leaky_relu(signal, self.block.slope)
        return self._convolve(functional.pad(active.mT, ((self.taps - 1) * self.block.inputs, 0))).mT

    @property
    def past(self) -> int:
        """Input steps before a block that its results depend on."""
        return (self.taps - 1) * self.block.inputs

    @abstractmethod
    def _convolve(self, signal: Tensor) -> Tensor:
        """`signal` [batch, inputs, steps], with silence in front, by torch's convolution."""

    @property
    @abstractmethod
    def kernel(self) -> Tensor:
        """The weight in the order of torch's convolution."""

    @abstractmethod
    def _ordered(self, kernel: Tensor) -> Tensor:
        """The weight whose `kernel` is this."""

    def kernels(self) -> dict[str, Tensor]:
        """`weight` in the order of torch's convolution, and `bias` [outputs]."""
        return {"weight": self.kernel, "bias": self.bias}

    @torch.no_grad()
    def load_kernels(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what `kernels` returned."""
        self.weight.copy_(self._ordered(tensors["weight"]))
        self.bias.copy_(tensors["bias"])

    def extra_repr(self) -> str:
        return (
            f"{self.inputs}, {self.outputs}, taps={self.taps}, groups={self.groups}, "
            f"steps={self.block.inputs}:{self.block.outputs}, slope={self.block.slope}"
        )


class CausalConvolution(_BlockConvolution):
    """A strided convolution whose last input is the present one; kernel_size is a multiple of stride.

    Its result t is that of torch's convolution after kernel_size - stride zeros on the left. slope: of a
    leaky ReLU on the input; 1 is none.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel_size: int,
        stride: int = 1,
        *,
        groups: int = 1,
        slope: float = 1.0,
    ) -> None:
        taps = kernel_size // stride
        super().__init__(inputs, outputs, taps=taps, steps_in=stride, steps_out=1, groups=groups, slope=slope)

    def _convolve(self, signal: Tensor) -> Tensor:
        return functional.conv1d(signal, self.kernel, self.bias, self.block.inputs, groups=self.groups)

    @property
    def kernel(self) -> Tensor:
        """[outputs, inputs / groups, kernel_size]."""
        steps = self.weight.unflatten(2, (self.block.inputs, -1))  # [groups, taps, stride, inputs, outputs]
        return steps.permute(0, 4, 3, 1, 2).flatten(3, 4).flatten(0, 1)

    def _ordered(self, kernel: Tensor) -> Tensor:
        steps = kernel.unflatten(2, (self.taps, -1)).unflatten(0, (self.groups, -1))
        return steps.permute(0, 3, 4, 2, 1).flatten(2, 3)


class CausalTransposedConvolution(_BlockConvolution):
    """A transposed convolution cut to steps * stride results; kernel_size is a multiple of stride.

    What torch's transposed convolution gives beyond is the overlap with inputs to come. slope: of a leaky
    ReLU on the input; 1 is none.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel_size: int, stride: int, *, groups: int = 1, slope: float = 1.0
    ) -> None:
        taps = kernel_size // stride
        super().__init__(inputs, outputs, taps=taps, steps_in=1, steps_out=stride, groups=groups, slope=slope)

    def _convolve(self, signal: Tensor) -> Tensor:
        stride = self.block.outputs
        whole = functional.conv_transpose1d(signal, self.kernel, self.bias, stride, groups=self.groups)
        return whole[..., (self.taps - 1) * stride : signal.shape[-1] * stride]

    @property
    def kernel(self) -> Tensor:
        """[inputs, outputs / groups, kernel_size]."""
        steps = self.weight.flip(1).unflatten(3, (self.block.outputs, -1))
        return steps.permute(0, 2, 4, 1, 3).flatten(3, 4).flatten(0, 1)

    def _ordered(self, kernel: Tensor) -> Tensor:
        steps = kernel.unflatten(2, (self.taps, -1)).unflatten(0, (self.groups, -1))
        return steps.permute(0, 3, 1, 4, 2).flatten(3, 4).flip(1)


class ResidualUnit(nn.Module):
    """signal + grouped(lrelu(pointwise(depthwise(lrelu(signal))))), as in SoundStream of Lyra 2.

    depthwise: a causal kernel of `kernel_size` with `dilation` for each channel, without a bias, which the
    pointwise one's would repeat. pointwise: all channels to all. grouped: within each of `groups`.
    """

    def __init__(self, channels: int, *, kernel_size: int, dilation: int, groups: int, slope: float) -> None:
        super().__init__()
        self.channels, self.groups, self.dilation, self.slope = channels, groups, dilation, slope
        within = channels // groups
        self.depthwise = nn.Parameter(torch.zeros(kernel_size, channels))
        self.pointwise = nn.Parameter(torch.empty(channels, channels))
        self.pointwise_bias = nn.Parameter(torch.zeros(channels))
        self.grouped = nn.Parameter(torch.empty(groups, within, within))
        self.grouped_bias = nn.Parameter(torch.zeros(channels))
        gain = _gain(slope)
        nn.init.normal_(self.depthwise, std=math.sqrt(gain / kernel_size))
        _draw(self.pointwise, (0,), 1.0)
        # A tenth of the signal's variance, so that nine units together about double it.
        _draw(self.grouped, (1,), 0.1 * gain)

    def forward(self, signal: Tensor, memory: StreamMemory | None = None) -> Tensor:
        """[batch, steps, channels] to the same; memory: as in `CausalConvolution`."""
        past = self.past
        if memory is not None:
            return self(memory.extend(self, signal, past))[:, past:]
        if products_pay(signal):
            pointwise = (self.pointwise, self.pointwise_bias)
            grouped = (self.grouped, self.grouped_bias)
            return ResidualProducts.apply(
                signal, self.depthwise, *pointwise, *grouped, self.dilation, self.slope
            )
        kernels = self.kernels()
        active = functional.pad(functional.leaky_relu(signal, self.slope).mT, (past, 0))
        depthwise, grouped_kernel = kernels["depthwise.weight"], kernels["grouped.weight"]
        shifted = functional.conv1d(active, depthwise, dilation=self.dilation, groups=self.channels)
        hidden = functional.linear(shifted.mT, self.pointwise.mT, self.pointwise_bias)
        hidden = functional.leaky_relu(hidden, self.slope).mT
        return signal + functional.conv1d(hidden, grouped_kernel, self.grouped_bias, groups=self.groups).mT

    @property
    def past(self) -> int:
        """Steps before one that its result depends on."""
        return (len(self.depthwise) - 1) * self.dilation

    def kernels(self) -> dict[str, Tensor]:
        """Weights and biases [channels] of torch's convolutions `depthwise` [channels, 1, kernel_size],
        `pointwise` [channels, channels, 1] and `grouped` [channels, channels / groups, 1]."""
        return {
            "depthwise.weight": self.depthwise.mT.unsqueeze(1),
            "depthwise.bias": torch.zeros_like(self.pointwise_bias),
            "pointwise.weight": self.pointwise.mT.unsqueeze(2),
            "pointwise.bias": self.pointwise_bias,
            "grouped.weight": self.grouped.mT.flatten(0, 1).unsqueeze(2),
            "grouped.bias": self.grouped_bias,
        }

    @torch.no_grad()
    def load_kernels(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the like of what `kernels` returns; a bias of `depthwise` goes into that of `pointwise`."""
        pointwise, grouped = (tensors[f"{name}.weight"].squeeze(2) for name in ("pointwise", "grouped"))
        self.depthwise.copy_(tensors["depthwise.weight"].squeeze(1).mT)
        self.pointwise.copy_(pointwise.mT)
        self.pointwise_bias.copy_(tensors["pointwise.bias"] + pointwise @ tensors["depthwise.bias"])
        self.grouped.copy_(grouped.unflatten(0, (self.groups, -1)).mT)
        self.grouped_bias.copy_(tensors["grouped.bias"])

    def extra_repr(self) -> str:
        return f"{self.channels}, dilation={self.dilation}, groups={self.groups}, slope={self.slope}"


def _draw(weight: Tensor, inputs: tuple[int, ...], gain: float) -> None:
    """Normal values whose sums over the dimensions `inputs` have the variance `gain` on independent signals.

    They add up to zero over `inputs`, if those are more than one: what leaves a leaky ReLU is mostly
    positive, and layer after layer would add a constant to it that is the same whatever is said.
    """
    count = math.prod(weight.shape[dim] for dim in inputs)
    nn.init.normal_(weight, std=math.sqrt(gain / max(1, count - 1)))
    if count > 1:
        with torch.no_grad():
            weight.sub_(weight.mean(inputs, keepdim=True))


def _gain(slope: float) -> float:
    """Variance that keeps that of a signal through a leaky ReLU of `slope` (He et al. 2015)."""
    return 2 / (1 + slope**2)
