"""The convolutional encoder of SoundStream and EnCodec (arXiv 2107.03312, 2210.13438), as WavTokenizer uses
it (arXiv 2408.16532): audio [batch, samples] to features [batch, frames, dim]."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from codec.reflection import reflect
from codec.weight_norm import weight_norm


class EdgeConv1d(nn.Module):
    """Convolution over a signal reflected at both ends; ceil(length / stride) frames, whatever the length."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        conv = nn.Conv1d(inputs, outputs, kernel_size, stride)
        # With torch's own start, features are 97 % biases, and do not tell one sound from another for
        # thousands of steps: twelve layers take the signal away, and each adds its bias.
        nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
        self.conv = weight_norm(conv)

    def forward(self, signal: Tensor) -> Tensor:
        """[batch, inputs, length] to [batch, outputs, ceil(length / stride)]."""
        overlap = self.kernel_size - self.stride
        right = overlap // 2
        missing = -signal.shape[-1] % self.stride
        padded = reflect(signal, overlap - right, right + missing)
        if self.conv.in_channels > 1 or padded.device.type != "cpu":
            return self.conv(padded)
        # One channel: a small matrix product, which torch's convolution takes ten times as long for.
        windows = padded.squeeze(1).unfold(-1, self.kernel_size, self.stride).mT
        weight = self.conv.weight.squeeze(1).expand(len(padded), -1, -1)
        return (
            weight @ windows
            if self.conv.bias is None
            else torch.baddbmm(self.conv.bias[:, None], weight, windows)
        )


class _FastELU(torch.autograd.Function):
    """ELU by exp(x) - 1, within 2e-7 of torch's ELU, which takes seven times as long on a CPU."""

    @staticmethod
    def forward(context: Any, signal: Tensor) -> Tensor:
        result = torch.maximum(signal, signal.clamp_max(0).exp_().sub_(1))
        context.save_for_backward(result)
        return result

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        (result,) = context.saved_tensors
        return torch.where(result < 0, gradients[0] * (result + 1), gradients[0])


def elu(signal: Tensor) -> Tensor:
    """ELU with alpha 1."""
    if signal.device.type == "cpu" and signal.dtype == torch.float32 and not torch.compiler.is_compiling():
        return _FastELU.apply(signal)
    return functional.elu(signal)


class ResidualUnit(nn.Module):
    """Two convolutions through half the channels, beside a pointwise one."""

    def __init__(self, width: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.narrow = EdgeConv1d(width, width // 2, kernel_size)
        self.widen = EdgeConv1d(width // 2, width, 1)
        self.shortcut = EdgeConv1d(width, width, 1)

    def forward(self, signal: Tensor) -> Tensor:
        hidden = self.narrow(elu(signal))
        return self.shortcut(signal) + self.widen(elu(hidden))


class Stage(nn.Module):
    """A residual unit, then a strided convolution to twice the channels."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.residual = ResidualUnit(width)
        self.down = EdgeConv1d(width, 2 * width, 2 * stride, stride)

    def forward(self, signal: Tensor) -> Tensor:
        return self.down(elu(self.residual(signal)))


class SEANetEncoder(nn.Module):
    """Strided stages, an LSTM with a skip connection, and a last convolution to `dim` channels.

    strides: as the papers write them, from the coarsest to the finest; they are applied in reverse. Their
        product is the hop.
    width: channels before the first stage; each stage doubles them.
    Any length from one sample gives ceil(samples / hop) frames.
    """

    takes_any_length = True

    def __init__(
        self, *, strides: Sequence[int] = (8, 5, 4, 2), width: int = 32, lstm_layers: int = 2, dim: int = 512
    ) -> None:
        super().__init__()
        self.hop = math.prod(strides)
        self.stem = EdgeConv1d(1, width, 7)
        self.stages = nn.ModuleList(
            Stage(width * 2**index, stride) for index, stride in enumerate(reversed(strides))
        )
        width *= 2 ** len(strides)
        self.lstm = nn.LSTM(width, width, lstm_layers)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
        self.project_out = EdgeConv1d(width, dim, 7)

    def forward(self, audio: Tensor) -> Tensor:
        signal = self.stem(audio.unsqueeze(1))
        for stage in self.stages:
            signal = stage(signal)
        frames = signal.permute(2, 0, 1)
        with torch.autocast(frames.device.type, enabled=False):  # cuDNN's would be fp16 under any autocast
            remembered = self.lstm(frames.float())[0] + frames
        features = self.project_out(elu(remembered.permute(1, 2, 0)))
        return features.mT.to(torch.float32)
