"""Speed of the SoundStream backbone beside the same network of torch's convolutions alone.

    python -m benchmarks.soundstream [--batch 8] [--samples 16000] [--threads 1] [--repeats 30]

Both have the same weights, and take turns within one process. Seconds are those of the CPU, of all threads.
The least of the repeats is the least disturbed by other processes. `products` is the time that the matrix
products of a step take by themselves, on tensors of the same sizes: what no arrangement goes below.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from codec import backbones
from codec.backbones.causal_convolution import CausalConvolution, CausalTransposedConvolution, ResidualUnit
from codec.backbones.soundstream import SLOPE, SoundStreamDecoder, SoundStreamEncoder


class PaddedConvolution(nn.Module):
    """nn.Conv1d after zeros on the left, of signals [batch, channels, steps]."""

    def __init__(self, convolution: nn.Conv1d) -> None:
        super().__init__()
        self.convolution = convolution
        (kernel,), (stride,), (dilation,) = convolution.kernel_size, convolution.stride, convolution.dilation
        self.padding = (kernel - 1) * dilation + 1 - stride

    def forward(self, signal: Tensor) -> Tensor:
        return self.convolution(functional.pad(signal, (self.padding, 0)))


class CutTransposedConvolution(nn.Module):
    """nn.ConvTranspose1d without what it gives beyond steps * stride."""

    def __init__(self, convolution: nn.ConvTranspose1d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, signal: Tensor) -> Tensor:
        return self.convolution(signal)[..., : signal.shape[-1] * self.convolution.stride[0]]


class PlainUnit(nn.Module):
    """A residual unit of three nn.Conv1d."""

    def __init__(self, unit: ResidualUnit) -> None:
        super().__init__()
        width = unit.channels
        depthwise = nn.Conv1d(width, width, len(unit.depthwise), dilation=unit.dilation, groups=width)
        pointwise, grouped = nn.Conv1d(width, width, 1), nn.Conv1d(width, width, 1, groups=unit.groups)
        for name, layer in {"depthwise": depthwise, "pointwise": pointwise, "grouped": grouped}.items():
            fill(layer, unit.kernels()[f"{name}.weight"], unit.kernels()[f"{name}.bias"])
        self.depthwise, self.pointwise, self.grouped = PaddedConvolution(depthwise), pointwise, grouped

    def forward(self, signal: Tensor) -> Tensor:
        hidden = self.pointwise(self.depthwise(functional.leaky_relu(signal, SLOPE)))
        return signal + self.grouped(functional.leaky_relu(hidden, SLOPE))


def plain(layer: nn.Module) -> nn.Module:
    """The same layer of torch's convolutions, with the leaky ReLU before it."""
    if isinstance(layer, ResidualUnit):
        return PlainUnit(layer)
    assert isinstance(layer, CausalConvolution | CausalTransposedConvolution)
    sizes = (layer.inputs, layer.outputs, layer.kernel.shape[-1])
    made: nn.Module
    if isinstance(layer, CausalConvolution):
        strided = nn.Conv1d(*sizes, layer.block.inputs, groups=layer.groups)
        fill(strided, layer.kernel, layer.bias)
        made = PaddedConvolution(strided)
    else:
        transposed = nn.ConvTranspose1d(*sizes, layer.block.outputs, groups=layer.groups)
        fill(transposed, layer.kernel, layer.bias)
        made = CutTransposedConvolution(transposed)
    return made if layer.block.slope == 1 else nn.Sequential(nn.LeakyReLU(layer.block.slope), made)


@torch.no_grad()
def fill(convolution: nn.Conv1d | nn.ConvTranspose1d, kernel: Tensor, bias: Tensor) -> None:
    """Give `convolution` these weights."""
    assert convolution.bias is not None
    convolution.weight.copy_(kernel)
    convolution.bias.copy_(bias)


def layers(encoder: SoundStreamEncoder, decoder: SoundStreamDecoder) -> list[nn.Module]:
    """All layers, in the order in which a signal passes them."""
    return [
        module
        for network in (encoder, decoder)
        for module in network.modules()
        if isinstance(module, CausalConvolution | CausalTransposedConvolution | ResidualUnit)
    ]


def products(ordered: list[nn.Module], samples: int, batch: int) -> Callable[[], None]:
    """The matrix products of a step alone: of each layer one forward, two backward (the first layer one)."""
    work: list[tuple[Tensor, Tensor, Tensor, bool]] = []
    steps = samples
    for layer in ordered:
        per_block = 1
        if isinstance(layer, ResidualUnit):
            matrices = [*layer.pointwise.unsqueeze(0), *layer.grouped]
        else:
            assert isinstance(layer, CausalConvolution | CausalTransposedConvolution)
            steps, per_block = steps // layer.block.inputs, layer.block.outputs
            matrices = list(layer.weight.detach().flatten(0, 1))
        for matrix in matrices:
            rows, results = (torch.randn(batch * steps, size) for size in matrix.shape)
            work.append((rows, matrix.detach(), results, layer is not ordered[0]))
        steps *= per_block

    def run() -> None:
        for rows, matrix, gradient, further in work:
            torch.mm(rows, matrix)
            torch.mm(rows.T, gradient)
            if further:
                torch.mm(gradient, matrix.T)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--samples", type=int, default=16_000, help="of each row, a multiple of 320")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=30, help="timed calls of each, after two untimed")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    encoder, decoder = backbones.get("soundstream").build()
    assert isinstance(encoder, SoundStreamEncoder)
    assert isinstance(decoder, SoundStreamDecoder)
    ordered = layers(encoder, decoder)
    peer = nn.Sequential(*(plain(layer) for layer in ordered))
    audio = 0.1 * torch.randn(options.batch, options.samples)

    def ours() -> Tensor:
        return decoder(encoder(audio))

    def torchs() -> Tensor:
        return peer(audio.unsqueeze(1)).squeeze(1)

    def step(network: Callable[[], Tensor]) -> None:
        for module in (encoder, decoder, peer):
            module.zero_grad()  # as a training does: gradients are made anew
        network().square().mean().backward()

    def forward(network: Callable[[], Tensor]) -> None:
        with torch.no_grad():
            network()

    with torch.no_grad():
        difference = ((ours() - torchs()).norm() / torchs().norm()).item()
    print(
        f"[{options.batch}, {options.samples}] samples, {options.threads} thread(s), "
        f"torch {torch.__version__}"
    )
    print(f"relative difference of the outputs: {difference:.1e}")
    print("CPU seconds              ours             torch's convolutions   ratio         products")
    print("                   least    median         least    median   least  median    least")
    kernel = products(ordered, options.samples, options.batch)
    for name, run in (("forward", forward), ("forward+backward", step)):
        works: list[Callable[[], object]] = [partial(run, ours), partial(run, torchs), kernel]
        times: list[list[float]] = [[], [], []]
        for repeat in range(options.repeats + 2):
            for work, taken in zip(works, times, strict=True):
                start = time.process_time()
                work()
                if repeat >= 2:
                    taken.append(time.process_time() - start)
        (least, middle), (peer_least, peer_middle) = ((min(t), median(t)) for t in times[:2])
        floor = f"{min(times[2]):8.3f}" if run is step else ""
        print(
            f"{name:16} {least:8.3f}  {middle:8.3f}      {peer_least:8.3f}  {peer_middle:8.3f}   "
            f"{least / peer_least:5.2f}   {middle / peer_middle:5.2f} {floor}"
        )


if __name__ == "__main__":
    main()
