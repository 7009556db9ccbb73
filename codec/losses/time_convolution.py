"""Strided convolution over time as matrix products, for signals laid out [sequences, steps, channels].

On a CPU, layers with many channels and few steps, as those of the period discriminators, take a third less
time like this than by torch's convolution, which puts every tensor in another order and back.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as functional
from torch import Tensor, nn


class TimeConvolution(nn.Module):
    """A convolution of odd kernel_size, with half of it as padding; weight [outputs, kernel_size, inputs]."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.inputs, self.outputs, self.kernel_size, self.stride = inputs, outputs, kernel_size, stride
        self.weight = nn.Parameter(torch.empty(outputs, kernel_size, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        # The bounds of torch's convolutions.
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        nn.init.uniform_(self.bias, -1 / math.sqrt(kernel_size * inputs), 1 / math.sqrt(kernel_size * inputs))

    def forward(self, signal: Tensor) -> Tensor:
        """[sequences, steps, inputs] to [sequences, ceil(steps / stride), outputs]."""
        weight = self.weight.mT
        return functional.conv1d(signal.mT, weight, self.bias, self.stride, self.kernel_size // 2).mT

    def extra_repr(self) -> str:
        return f"{self.inputs}, {self.outputs}, kernel_size={self.kernel_size}, stride={self.stride}"


def convolutions(layers: list[TimeConvolution], signal: Tensor, slope: float) -> list[Tensor]:
    """What each of `layers`, one after the other, makes of `signal` [sequences, steps, inputs]; a leaky ReLU
    of that slope follows all but the last. Matrix products on a CPU, in float32."""
    if signal.device.type == "cpu" and signal.dtype == torch.float32 and not torch.is_autocast_enabled("cpu"):
        return _by_products(layers, signal, slope)
    outputs = []
    for layer in layers:
        signal = layer(signal)
        if layer is not layers[-1]:
            signal = functional.leaky_relu(signal, slope, inplace=True)
        outputs.append(signal)
    return outputs


def _by_products(layers: list[TimeConvolution], signal: Tensor, slope: float) -> list[Tensor]:
    steps, outputs = signal.shape[1], []
    layouts = []
    for layer in layers:
        layouts.append(_Layout.of(layer, steps))
        steps = layouts[-1].results
    first = layouts[0]
    rows = functional.pad(signal, (0, 0, first.before, first.rows - first.before - signal.shape[1]))
    for layer, layout, following in zip(layers, layouts, [*layouts[1:], None], strict=True):
        last = following is None
        target = _Layout(0, layout.results, 0, 0) if following is None else following
        rows = _Product.apply(rows, layer.weight, layer.bias, layout, target, 1.0 if last else slope)
        outputs.append(rows[:, target.before : target.before + layout.results])
    return outputs


class _Layout(NamedTuple):
    """How a layer's input lies in memory: `before` rows of zeros, the steps, zeros up to `rows`, which are a
    multiple of `stride`. results: steps of the output."""

    before: int
    rows: int
    stride: int
    results: int

    @classmethod
    def of(cls, layer: TimeConvolution, steps: int) -> "_Layout":
        results = -(-steps // layer.stride)
        blocks = results + (layer.kernel_size - 1) // layer.stride
        return cls(layer.kernel_size // 2, blocks * layer.stride, layer.stride, results)


class _Product(torch.autograd.Function):
    """One layer with its leaky ReLU, from one layout to the next one's.

    Rows are taken in blocks of `stride`. The window of result t is block t and the beginning of those after
    it, so that the convolution is one matrix product for each of these blocks, of all sequences at once.
    The last results of a sequence see the next sequence, and are dropped.
    """

    @staticmethod
    def forward(
        context: Any,
        rows: Tensor,
        weight: Tensor,
        bias: Tensor,
        layout: _Layout,
        target: _Layout,
        slope: float,
    ) -> Tensor:
        sequences = len(rows)
        blocks = rows.reshape(sequences * layout.rows // layout.stride, -1)
        matrix = weight.flatten(1)
        product = blocks.new_empty(len(blocks), len(matrix))
        for offset, start, stop in _windows(matrix, blocks):
            part, windows = matrix[:, start:stop], blocks[offset:, : stop - start]
            summed = product[: len(windows)]
            torch.addmm(summed if offset else bias, windows, part.T, out=summed)
        result = product.new_zeros(sequences, target.rows, len(matrix))
        inner = result[:, target.before : target.before + layout.results]
        kept = product.view(sequences, -1, len(matrix))[:, : layout.results]
        torch.ops.aten.leaky_relu.out(kept, slope, out=inner)
        context.save_for_backward(blocks, weight, result)
        context.layout, context.target, context.slope = layout, target, slope
        return result

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        blocks, weight, result = context.saved_tensors
        layout, target = context.layout, context.target
        matrix, sequences = weight.flatten(1), len(result)
        inner = slice(target.before, target.before + layout.results)
        gradient = result.new_zeros(sequences, layout.rows // layout.stride, len(matrix))
        torch.ops.aten.leaky_relu_backward.grad_input(
            gradients[0][:, inner],
            result[:, inner],
            context.slope,
            True,
            grad_input=gradient[:, : layout.results],
        )
        gradient = gradient.flatten(0, 1)
        of_blocks = torch.empty_like(blocks) if context.needs_input_grad[0] else None
        of_matrix = torch.empty_like(matrix) if context.needs_input_grad[1] else None
        for offset, start, stop in _windows(matrix, blocks):
            seen = gradient[: len(gradient) - offset]
            if of_blocks is not None and offset:
                summed = of_blocks[offset:, : stop - start]
                torch.addmm(summed, seen, matrix[:, start:stop], out=summed)
            elif of_blocks is not None:
                torch.mm(seen, matrix[:, start:stop], out=of_blocks)
            if of_matrix is not None:
                torch.mm(seen.T, blocks[offset:, : stop - start], out=of_matrix[:, start:stop])
        return (
            None if of_blocks is None else of_blocks.view(sequences, layout.rows, -1),
            None if of_matrix is None else of_matrix.view_as(weight),
            gradient.sum(0) if context.needs_input_grad[2] else None,
            None,
            None,
            None,
        )


def _windows(matrix: Tensor, blocks: Tensor) -> list[tuple[int, int, int]]:
    """For each block that a window touches: its distance from the first, and its columns of the matrix."""
    width, size = matrix.shape[1], blocks.shape[1]
    return [(offset, start, min(start + size, width)) for offset, start in enumerate(range(0, width, size))]
