"""Conversion of the three files of Lyra 2 to tensors in the order of torch's convolutions.

Names: `encoder.` and `decoder.` with the names of the modules, `bottleneck.codebooks` [stages, codes, dim].
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from codec.backbones.soundstream import INNER_KERNEL, OUTER_TAPS, TAPS, UNIT_KERNEL, SoundStreamBackbone
from codec.weights.catalogue import WeightsError
from codec.weights.tflite_files import CONVOLUTION, DEPTHWISE, TRANSPOSED, Layer, TFLiteFile

ENCODER, QUANTIZER, DECODER = "soundstream_encoder.tflite", "quantizer.tflite", "lyragan.tflite"
STAGES, CODES = 46, 16
Expected = tuple[str, str, int, tuple[int, ...]]  # name, kind, pieces in the file, shape as torch has it


def convert(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of the files in `folder`, float32. Raises WeightsError if they are others."""
    sizes = SoundStreamBackbone()
    tensors = _convolutions(folder / ENCODER, list(_encoder(sizes)), "encoder.")
    tensors |= _convolutions(folder / DECODER, list(_decoder(sizes)), "decoder.")
    tensors["bottleneck.codebooks"] = _codebooks(folder / QUANTIZER, sizes.dim)
    return tensors


def _encoder(sizes: SoundStreamBackbone) -> Iterator[Expected]:
    widths, (first, *strides) = sizes.widths, sizes.strides
    yield "stem", CONVOLUTION, 1, (widths[0], 1, OUTER_TAPS * first)
    for stage, (stride, groups) in enumerate(zip(strides, sizes.groups, strict=True)):
        yield from _units(sizes, stage, widths[stage], groups)
        shape = (widths[stage + 1], widths[stage] // groups, TAPS * stride)
        yield f"stages.{stage}.convolution", CONVOLUTION, 1, shape
    yield "project_out", CONVOLUTION, 1, (sizes.dim, widths[-1] // sizes.groups[-1], INNER_KERNEL)


def _decoder(sizes: SoundStreamBackbone) -> Iterator[Expected]:
    widths, (first, *strides) = sizes.widths, sizes.strides
    yield "project_in", CONVOLUTION, 1, (widths[-1], sizes.dim // sizes.groups[-1], INNER_KERNEL)
    for place, stage in enumerate(reversed(range(len(strides)))):
        groups = sizes.groups[stage]
        shape = (widths[stage + 1], widths[stage] // groups, TAPS * strides[stage])
        yield f"stages.{place}.convolution", TRANSPOSED, groups, shape
        yield from _units(sizes, place, widths[stage], groups)
    yield "head", TRANSPOSED, 1, (widths[0], 1, OUTER_TAPS * first)


def _units(sizes: SoundStreamBackbone, place: int, width: int, groups: int) -> Iterator[Expected]:
    for unit in range(len(sizes.dilations)):
        name = f"stages.{place}.units.{unit}"
        yield f"{name}.depthwise", DEPTHWISE, 1, (width, 1, UNIT_KERNEL)
        yield f"{name}.pointwise", CONVOLUTION, 1, (width, width, 1)
        yield f"{name}.grouped", CONVOLUTION, 1, (width, width // groups, 1)


def _convolutions(path: Path, expected: Sequence[Expected], prefix: str) -> dict[str, np.ndarray]:
    """Weights and biases by name, where the main graph of `path` has the expected layers in their order."""
    file = TFLiteFile(path)
    layers = list(file.layers(file.graph("main")))
    pieces = sum(count for _, _, count, _ in expected)
    if len(layers) != pieces:
        raise WeightsError(f"{path} has {len(layers)} convolutions, Lyra 2 has {pieces}; fetch it again")
    tensors = {}
    for name, kind, count, shape in expected:
        taken, layers = layers[:count], layers[count:]
        kernels = [_kernel(layer) for layer in taken if layer.kind == kind]
        if len(kernels) < count or (kernel := np.concatenate(kernels)).shape != shape:
            raise WeightsError(
                f"{path}: {name} should be {kind} {list(shape)} in {count} piece(s), and is "
                f"{', '.join(f'{layer.kind} {list(layer.weight.shape)}' for layer in taken)}; fetch the file "
                "again"
            )
        tensors[f"{prefix}{name}.weight"] = np.ascontiguousarray(kernel)
        tensors[f"{prefix}{name}.bias"] = np.concatenate([layer.bias for layer in taken])
    return tensors


def _kernel(layer: Layer) -> np.ndarray:
    """The weight of a one-dimensional convolution, from height times a width of 1, in torch's order."""
    weight = layer.weight[:, :, 0]
    if layer.kind == DEPTHWISE:  # [1, kernel, channels]
        return weight.transpose(2, 0, 1)
    if layer.kind == TRANSPOSED:  # [outputs, kernel, inputs]
        return weight.transpose(2, 0, 1)
    return weight.transpose(0, 2, 1)  # [outputs, kernel, inputs]


def _codebooks(path: Path, dim: int) -> np.ndarray:
    """[stages, codes, dim]: what the encoder subtracts a residual from, stage by stage."""
    file = TFLiteFile(path)
    constants = list(file.constants(file.graph("encode"), "SQUARED_DIFFERENCE"))
    if [constant.size for constant in constants] != [CODES * dim] * STAGES:
        raise WeightsError(f"{path} does not hold {STAGES} codebooks of {CODES} codes; fetch it again")
    return np.stack([constant.reshape(CODES, dim) for constant in constants])
