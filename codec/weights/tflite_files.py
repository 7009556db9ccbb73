"""Layers of a TensorFlow Lite file: convolutions in the order of the graph, and constants, as float32.

Reads the flatbuffer by the package `tflite`; runs nothing. Quantized values become
(stored - zero point) * scale, where a tensor has one scale or one for each slice of a dimension.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from codec.weights.catalogue import WeightsError

CONVOLUTION, DEPTHWISE, TRANSPOSED = "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"
# Places of weights and bias among the inputs of each kind.
_PLACES = {CONVOLUTION: (1, 2), DEPTHWISE: (1, 2), TRANSPOSED: (1, 3)}
_DTYPES = {"FLOAT32": "<f4", "INT8": "|i1", "UINT8": "|u1", "INT32": "<i4", "FLOAT16": "<f2"}


class Layer(NamedTuple):
    """A convolution: its kind, weights as the file lays them out, and bias [outputs]."""

    kind: str
    weight: np.ndarray
    bias: np.ndarray


class TFLiteFile:
    """The graphs of a file. Raises WeightsError if it is none, or if the package `tflite` is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            import tflite
        except ImportError:
            raise WeightsError(
                f"{path} is a TensorFlow Lite file, which the package tflite reads: "
                "pip install 'codecbench[soundstream]'"
            ) from None
        self._tflite = tflite
        self._operators = _names(tflite.BuiltinOperator)
        self._types = _names(tflite.TensorType)
        data = path.read_bytes()
        if not tflite.Model.ModelBufferHasIdentifier(data, 0):
            raise WeightsError(f"{path} is not a TensorFlow Lite file; fetch it again")
        self._model = tflite.Model.GetRootAsModel(data, 0)

    def graph(self, name: str) -> int:
        """Number of the graph called `name`."""
        names = [
            (self._model.Subgraphs(index).Name() or b"").decode("utf-8", "replace")
            for index in range(self._model.SubgraphsLength())
        ]
        if name not in names:
            raise WeightsError(f"{self.path} has no graph {name!r}, only {', '.join(names) or 'none'}")
        return names.index(name)

    def layers(self, graph: int) -> Iterator[Layer]:
        """Convolutions of a graph, in the order in which it computes them."""
        for kind, inputs in self._operations(graph):
            if kind in _PLACES:
                weight, bias = (self._constant(graph, inputs[place]) for place in _PLACES[kind])
                yield Layer(kind, weight, bias)

    def constants(self, graph: int, kind: str) -> Iterator[np.ndarray]:
        """The constant inputs of the operators of one kind, in the order in which a graph computes them."""
        for found, inputs in self._operations(graph):
            if found == kind:
                yield from (
                    self._constant(graph, tensor) for tensor in inputs if self._is_constant(graph, tensor)
                )

    def _operations(self, graph: int) -> Iterator[tuple[str, list[int]]]:
        subgraph = self._model.Subgraphs(graph)
        for index in range(subgraph.OperatorsLength()):
            operator = subgraph.Operators(index)
            code = self._model.OperatorCodes(operator.OpcodeIndex())
            # Files before schema 3a have the code in one byte, later ones may exceed it.
            number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            inputs = [operator.Inputs(place) for place in range(operator.InputsLength())]
            yield self._operators.get(number, str(number)), inputs

    def _is_constant(self, graph: int, tensor: int) -> bool:
        return (
            tensor >= 0
            and self._model.Buffers(self._model.Subgraphs(graph).Tensors(tensor).Buffer()).DataLength() > 0
        )

    def _constant(self, graph: int, number: int) -> np.ndarray:
        tensor = self._model.Subgraphs(graph).Tensors(number)
        name = (tensor.Name() or b"").decode("utf-8", "replace")
        kind = self._types.get(tensor.Type(), str(tensor.Type()))
        if kind not in _DTYPES:
            raise WeightsError(f"{self.path}: tensor {name} is of the type {kind}, which is not read here")
        shape = [tensor.Shape(dimension) for dimension in range(tensor.ShapeLength())]
        data = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
        values = np.frombuffer(np.asarray(data, dtype=np.uint8).tobytes(), dtype=_DTYPES[kind])
        if values.size != np.prod(shape, dtype=np.int64):
            raise WeightsError(f"{self.path}: tensor {name} does not hold the {shape} values that it states")
        return _dequantized(values.reshape(shape), tensor.Quantization())


def _names(enumeration: Any) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _dequantized(values: np.ndarray, quantization: Any) -> np.ndarray:
    """`values` in float32, by the scale of a tensor if it has one."""
    if values.dtype.kind == "f" or quantization is None or not quantization.ScaleLength():
        return values.astype(np.float32)
    scales = np.asarray(
        [quantization.Scale(index) for index in range(quantization.ScaleLength())], np.float32
    )
    zeros = np.asarray(
        [quantization.ZeroPoint(index) for index in range(quantization.ZeroPointLength())] or [0], np.int64
    )
    shape = [1] * values.ndim
    if len(scales) > 1:
        shape[quantization.QuantizedDimension()] = len(scales)
    zero = zeros.reshape(shape) if len(zeros) > 1 else zeros[0]
    return (values.astype(np.int64) - zero).astype(np.float32) * scales.reshape(shape)
