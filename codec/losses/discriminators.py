"""Discriminators of audio: by period (HiFi-GAN, arXiv 2010.05646), by spectrogram (UnivNet, arXiv 2106.07889;
Vocos, 2306.00814), and those of DAC (2306.06546).

Each takes audio [batch, samples] and returns its feature maps, the last of which are its scores.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

from codec.losses.time_convolution import TimeConvolution, convolutions
from codec.reflection import pad, stft
from codec.weight_norm import weight_norm

PERIODS = (2, 3, 5, 7, 11)  # primes, so that they overlap little
SLOPE = 0.1  # of the leaky ReLU
BANDS = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))  # of the spectrum, up to Nyquist


class PeriodDiscriminator(nn.Module):
    """Convolutions along samples that are `period` apart.

    first_map: whether the first layer's output counts as a feature map, as in DAC and not in Vocos.
    always_pad: DAC appends `period` reflected samples even where the period divides the length.
    width: channels over those of HiFi-GAN.
    """

    CHANNELS = (32, 128, 512, 1024, 1024)

    def __init__(
        self, period: int, *, first_map: bool = False, always_pad: bool = False, width: float = 1.0
    ) -> None:
        super().__init__()
        self.period, self.first_map, self.always_pad = period, first_map, always_pad
        channels = [1, *(_scaled(number, width) for number in self.CHANNELS)]
        self.layers = nn.ModuleList(
            weight_norm(TimeConvolution(inputs, outputs, 5, stride))
            for inputs, outputs, stride in zip(channels[:-1], channels[1:], (3, 3, 3, 3, 1), strict=True)
        )
        self.score = weight_norm(TimeConvolution(channels[-1], 1, 3))

    def forward(self, audio: Tensor) -> list[Tensor]:
        missing = -audio.shape[-1] % self.period
        if self.always_pad and not missing:
            missing = self.period
        audio = pad(audio, 0, missing)
        columns = audio.unflatten(1, (-1, self.period)).mT  # [batch, period, steps]
        outputs = convolutions([*self.layers, self.score], columns.flatten(0, 1).unsqueeze(-1), SLOPE)
        maps = [output.unflatten(0, columns.shape[:2]).permute(0, 3, 2, 1) for output in outputs]
        return maps if self.first_map else maps[1:]  # each [batch, channels, steps, period]


class SpectrogramDiscriminator(nn.Module):
    """Convolutions over the magnitudes of a short-time Fourier transform without window, as in Vocos.

    window, hop: samples. width: channels over those of Vocos.
    """

    CHANNELS = 64

    def __init__(self, window: int, hop: int, width: float = 1.0) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        channels = _scaled(self.CHANNELS, width)
        shapes = (((7, 5), (2, 2)), ((5, 3), (2, 1)), ((5, 3), (2, 2)), ((3, 3), (2, 1)), ((3, 3), (2, 2)))
        self.layers = nn.ModuleList(
            _convolution(channels if index else 1, channels, kernel, stride)
            for index, (kernel, stride) in enumerate(shapes)
        )
        self.score = _convolution(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> list[Tensor]:
        signal = _spectrum(audio, self.window, self.hop).abs().unsqueeze(1)
        maps = []
        for layer in self.layers:
            signal = functional.leaky_relu(_convolve(layer, signal), SLOPE, inplace=True)
            maps.append(signal)
        return [*maps, self.score(signal)]


class BandDiscriminator(nn.Module):
    """Convolutions over the complex short-time Fourier transform, separately for each of five bands, as in
    DAC.

    window: samples; the hop is a quarter of it. width: channels over those of DAC.
    """

    CHANNELS = 32

    def __init__(self, window: int, width: float = 1.0) -> None:
        super().__init__()
        self.window = window
        channels = _scaled(self.CHANNELS, width)
        bins = window // 2 + 1
        self.bands = [(int(low * bins), int(high * bins)) for low, high in BANDS]
        shapes = (((3, 9), (1, 1)), *(((3, 9), (1, 2)),) * 3, ((3, 3), (1, 1)))
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                _convolution(channels if index else 2, channels, kernel, stride)
                for index, (kernel, stride) in enumerate(shapes)
            )
            for _ in self.bands
        )
        self.score = _convolution(channels, 1, (3, 3))

    def forward(self, audio: Tensor) -> list[Tensor]:
        spectrum = torch.view_as_real(_spectrum(audio, self.window, self.window // 4).mT)
        spectrum = spectrum.permute(0, 3, 1, 2)  # [batch, real and imaginary, frames, bins]
        maps, outputs = [], []
        for (low, high), stack in zip(self.bands, self.stacks, strict=True):
            signal = spectrum[..., low:high]
            assert isinstance(stack, nn.ModuleList)
            for layer in stack:
                signal = functional.leaky_relu(_convolve(layer, signal), SLOPE, inplace=True)
                maps.append(signal)
            outputs.append(signal)
        return [*maps, self.score(torch.cat(outputs, dim=-1))]


class Discriminators(nn.ModuleList):
    """Several discriminators of the same audio; returns the feature maps of each."""

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        return [discriminator(audio) for discriminator in self]


class DACDiscriminators(Discriminators):
    """The discriminators of DAC, without its multi-scale one, as WavTokenizer declares them."""

    def __init__(
        self,
        periods: Sequence[int] = PERIODS,
        windows: Sequence[int] = (2048, 1024, 512),
        width: float = 1.0,
    ) -> None:
        super().__init__(
            [PeriodDiscriminator(period, first_map=True, always_pad=True, width=width) for period in periods]
            + [BandDiscriminator(window, width) for window in windows]
        )

    def forward(self, audio: Tensor) -> list[list[Tensor]]:
        audio = audio - audio.mean(-1, keepdim=True)
        return super().forward(0.8 * audio / (audio.abs().amax(-1, keepdim=True) + 1e-9))


def multi_period(width: float = 1.0) -> Discriminators:
    """The multi-period discriminators of HiFi-GAN, as in Vocos and WavTokenizer."""
    return Discriminators(PeriodDiscriminator(period, width=width) for period in PERIODS)


def multi_resolution(width: float = 1.0) -> Discriminators:
    """The multi-resolution discriminators of Vocos, as in WavTokenizer."""
    return Discriminators(
        SpectrogramDiscriminator(window, window // 4, width) for window in (1024, 2048, 512)
    )


def dac(width: float = 1.0) -> Discriminators:
    """The discriminators of DAC."""
    return DACDiscriminators(width=width)


def _scaled(channels: int, width: float) -> int:
    return max(1, round(width * channels))


def _convolution(
    inputs: int, outputs: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> nn.Conv2d:
    padding = kernel[0] // 2, kernel[1] // 2
    return weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding))


def _convolve(layer: nn.Module, signal: Tensor) -> Tensor:
    """`layer` of `signal` [batch, channels, rows, columns]; on a CPU with the channels innermost in memory,
    which takes torch two thirds of the time."""
    if signal.device.type != "cpu":
        return layer(signal)
    assert isinstance(layer, nn.Conv2d)
    padding = [size // 2 for size in layer.kernel_size]  # as of every layer here
    if signal.shape[1] > 1:
        signal = signal.contiguous(memory_format=torch.channels_last)
        return layer(signal) if signal.shape[3] > layer.stride[1] else _to_one_column(layer, signal)
    # One channel: a small matrix product, which torch's convolution takes five times as long for.
    windows = functional.unfold(signal, layer.kernel_size, padding=tuple(padding), stride=layer.stride)
    result = functional.linear(windows.mT, layer.weight.flatten(1), layer.bias)
    rows = (signal.shape[2] + 2 * padding[0] - layer.kernel_size[0]) // layer.stride[0] + 1
    return result.unflatten(1, (rows, -1)).permute(0, 3, 1, 2)


def _to_one_column(layer: nn.Conv2d, signal: Tensor) -> Tensor:
    """`layer` of a signal of no more columns than its stride, as a convolution without stride and padding
    along them: for one in bf16 that has both, oneDNN 3.12 reads memory that nobody has written."""
    rows, columns = (size // 2 for size in layer.kernel_size)
    after = layer.kernel_size[1] - columns - signal.shape[3]
    signal = functional.pad(signal, (columns, after))
    return functional.conv2d(signal, layer.weight, layer.bias, (layer.stride[0], 1), (rows, 0))


def _spectrum(audio: Tensor, window: int, hop: int) -> Tensor:
    with torch.autocast(device_type=audio.device.type, enabled=False):
        rectangle = torch.ones(window, device=audio.device)
        return stft(audio.float(), window, hop, rectangle)
