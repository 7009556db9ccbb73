"""Causal convolutions as matrix products, for signals laid out [batch, steps, channels] on a CPU.

torch's convolutions put every tensor in another order and back, and take a quarter of a training step for
the depthwise kernels, a hundredth of its operations. Here a depthwise convolution is a few shifted sums, a
pointwise one a product, a strided or transposed one a product for each tap of its window
(benchmarks/soundstream.py times both).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor
from torch.autograd.function import once_differentiable

_leaky_relu = torch.ops.aten.leaky_relu.out
_leaky_relu_backward = torch.ops.aten.leaky_relu_backward.grad_input


def products_pay(signal: Tensor) -> bool:
    """Whether a layer computes `signal` by the functions of this module: in float32 on a CPU, where neither
    autocast nor a compiler chooses the operations."""
    return (
        signal.device.type == "cpu"
        and signal.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class ResidualProducts(torch.autograd.Function):
    """A residual unit: signal + grouped(lrelu(pointwise(depthwise(lrelu(signal))))), silence before it.

    signal [batch, steps, channels]; depthwise [kernel, channels], whose last row meets the present; pointwise
    [channels in, channels out]; grouped [groups, channels in, channels out]; biases [channels]; slope: of the
    leaky ReLU, above 0.
    """

    @staticmethod
    def forward(
        context: Any,
        signal: Tensor,
        depthwise: Tensor,
        pointwise: Tensor,
        pointwise_bias: Tensor,
        grouped: Tensor,
        grouped_bias: Tensor,
        dilation: int,
        slope: float,
    ) -> Tensor:
        active = functional.leaky_relu(signal, slope).contiguous()
        shifted = active * depthwise[-1]
        for delay, row in _delays(len(depthwise), dilation, signal.shape[1]):
            shifted[:, delay:].addcmul_(active[:, :-delay], depthwise[row])
        rows = shifted.flatten(0, 1)
        hidden = torch.addmm(pointwise_bias, rows, pointwise)
        _leaky_relu(hidden, slope, out=hidden)
        result = torch.add(signal, grouped_bias, out=torch.empty_like(active))
        _in_groups(result, grouped).baddbmm_(_in_groups(hidden, grouped), grouped)
        context.save_for_backward(active, rows, hidden, depthwise, pointwise, grouped)
        context.dilation, context.slope = dilation, slope
        return result

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        active, rows, hidden, depthwise, pointwise, grouped = context.saved_tensors
        of_result = gradients[0].reshape(rows.shape)
        by_group, of_hidden = _in_groups(of_result, grouped), torch.empty_like(rows)
        torch.bmm(by_group, grouped.mT, out=_in_groups(of_hidden, grouped))
        _leaky_relu_backward(of_hidden, hidden, context.slope, True, grad_input=of_hidden)
        of_shifted = torch.mm(of_hidden, pointwise.T).view_as(active)
        delays = _delays(len(depthwise), context.dilation, active.shape[1])
        of_weights: tuple[Tensor | None, ...] = (None,) * 5
        if any(context.needs_input_grad[1:6]):  # none where they are frozen
            of_pointwise = torch.mm(rows.T, of_hidden), of_hidden.sum(0)
            of_grouped = torch.bmm(_in_groups(hidden, grouped).mT, by_group), of_result.sum(0)
            # The values of of_hidden have been used, and its place is free from here on.
            of_depthwise = _depthwise_gradient(of_shifted, active, depthwise, delays, of_hidden)
            of_weights = (of_depthwise, *of_pointwise, *of_grouped)
        of_signal = torch.mul(of_shifted, depthwise[-1], out=of_hidden.view_as(active))
        for delay, row in delays:
            of_signal[:, :-delay].addcmul_(of_shifted[:, delay:], depthwise[row])
        _leaky_relu_backward(of_signal, active, context.slope, True, grad_input=of_signal)
        of_signal.add_(of_result.view_as(active))
        return of_signal, *of_weights, None, None


def _depthwise_gradient(
    of_shifted: Tensor, active: Tensor, depthwise: Tensor, delays: list[tuple[int, int]], spare: Tensor
) -> Tensor:
    """The gradient of `depthwise` from that of the sums; `spare` is overwritten."""
    gradient, spare = torch.zeros_like(depthwise), spare.flatten()
    for delay, row in [(0, -1), *delays]:
        late, early = of_shifted[:, delay:], active[:, : active.shape[1] - delay]
        # Contiguous, since torch takes six times as long for the sum of a slice.
        product = spare[: late.numel()].view(late.shape)
        gradient[row] = torch.mul(late, early, out=product).sum((0, 1))
    return gradient


class Blocks(NamedTuple):
    """How a causal convolution takes its input in blocks of steps and gives blocks of steps back.

    inputs, outputs: steps per block: (stride, 1) of a strided convolution, (1, stride) of a transposed
    one. slope: of the leaky ReLU on the input; 1 is none.
    """

    inputs: int
    outputs: int
    slope: float


class BlockProducts(torch.autograd.Function):
    """A causal convolution over blocks of steps, silence before them: the result's block t is the bias and
    the sum over taps of block t - (taps - 1) + tap times weight[:, tap].

    signal [batch, steps, channels in]; weight [groups, taps, block.inputs * channels in / groups,
    block.outputs * channels out / groups]; bias [channels out].

    All clips lie in one matrix, each behind taps - 1 rows of zeros; results that reach from one clip into the
    next are dropped.
    """

    @staticmethod
    def forward(context: Any, signal: Tensor, weight: Tensor, bias: Tensor, block: Blocks) -> Tensor:
        groups, taps, _, width = weight.shape
        batch, steps, _ = signal.shape
        silence, length = taps - 1, steps // block.inputs
        rows = signal.new_empty(groups, batch, silence + length, weight.shape[2])
        rows[:, :, :silence] = 0
        inner = _by_step(rows[:, :, silence:], block.inputs)
        given = signal.unflatten(1, (length, block.inputs)).unflatten(3, (groups, -1))
        if block.slope == 1:
            inner.copy_(given)
        else:
            _leaky_relu(given, block.slope, out=inner)
        rows = rows.flatten(1, 2)
        product = rows.new_empty(groups, rows.shape[1], width)
        last = rows.shape[1] - silence
        summed = product[:, :last]
        summed.unflatten(2, (block.outputs, -1)).copy_(bias.view(groups, 1, 1, -1))
        for tap in range(taps):
            summed.baddbmm_(rows[:, tap : tap + last], weight[:, tap])
        context.save_for_backward(rows, weight)
        context.block, context.shape = block, signal.shape
        kept = product.unflatten(1, (batch, -1))[:, :, :length]
        return _by_step(kept, block.outputs).flatten(3, 4).flatten(1, 2)

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = context.saved_tensors
        block, (batch, steps, channels) = context.block, context.shape
        groups, taps, _, width = weight.shape
        silence, length = taps - 1, steps // block.inputs
        (of_result,) = gradients
        of_product = rows.new_empty(groups, batch, silence + length, width)
        of_product[:, :, length:] = 0
        given = of_result.unflatten(1, (length, block.outputs)).unflatten(3, (groups, -1))
        _by_step(of_product[:, :, :length], block.outputs).copy_(given)
        of_product = of_product.flatten(1, 2)
        last = rows.shape[1] - silence
        of_summed = of_product[:, :last]
        of_weight = of_bias = None
        if any(context.needs_input_grad[1:3]):  # neither where they are frozen
            of_weight, of_bias = torch.empty_like(weight), of_result.sum((0, 1))
            for tap in range(taps):
                torch.bmm(rows[:, tap : tap + last].mT, of_summed, out=of_weight[:, tap])
        if not context.needs_input_grad[0]:
            return None, of_weight, of_bias, None
        of_rows = torch.bmm(of_product, weight[:, 0].mT)  # of all rows: behind the last are zeros
        for tap in range(1, taps):
            of_rows[:, tap : tap + last].baddbmm_(of_summed, weight[:, tap].mT)
        of_given, given = (
            _by_step(value.unflatten(1, (batch, -1))[:, :, silence:], block.inputs)
            for value in (of_rows, rows)
        )
        of_signal = rows.new_empty(batch, length, block.inputs, groups, channels // groups)
        if block.slope == 1:
            of_signal.copy_(of_given)
        else:
            _leaky_relu_backward(of_given, given, block.slope, True, grad_input=of_signal)
        return of_signal.view(context.shape), of_weight, of_bias, None


def _delays(kernel: int, dilation: int, steps: int) -> list[tuple[int, int]]:
    """Delay in steps, and its row of the kernel, of all but the present; those beyond the signal are left
    out."""
    return [(delay, row) for row in range(kernel - 1) if (delay := (kernel - 1 - row) * dilation) < steps]


def _in_groups(values: Tensor, grouped: Tensor) -> Tensor:
    """A view [groups, rows, channels per group] of `values` [..., channels], for the matrices `grouped`."""
    return values.view(-1, *grouped.shape[:2]).transpose(0, 1)


def _by_step(blocks: Tensor, steps: int) -> Tensor:
    """A view [batch, blocks, steps, groups, channels] of `blocks` [groups, batch, blocks, steps * channels]
    with that many steps."""
    return blocks.unflatten(3, (steps, -1)).permute(1, 2, 3, 0, 4)
