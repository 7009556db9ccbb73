"""The Vocos decoder (Siuzdak 2023, arXiv 2306.00814) with WavTokenizer's residual and attention blocks in
front (arXiv 2408.16532): features [batch, frames, dim] to audio [batch, frames * hop]."""

import math

import torch
import torch.nn.functional as functional
from torch import Tensor, nn

EPSILON = 1e-6  # of every normalisation
GROUPS = 32  # of every group normalisation
OVERLAP = 4  # frames that overlap at any sample: a window is 4 hops


class ConditionalLayerNorm(nn.Module):
    """Layer normalisation with scales and shifts for each of several conditions."""

    def __init__(self, width: int, conditions: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(conditions, width))
        self.bias = nn.Parameter(torch.zeros(conditions, width))

    def forward(self, frames: Tensor, condition: int = 0) -> Tensor:
        weight, bias = self.weight[condition], self.bias[condition]
        return functional.layer_norm(frames, weight.shape, weight, bias, EPSILON)


class ResidualBlock(nn.Module):
    """Two convolutions over time, each after a group normalisation and SiLU. [batch, width, frames]."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, width, EPSILON)
        self.conv1 = nn.Conv1d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(GROUPS, width, EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, signal: Tensor) -> Tensor:
        hidden = self.conv1(functional.silu(self.norm1(signal)))
        return signal + self.conv2(self.dropout(functional.silu(self.norm2(hidden))))


class AttentionBlock(nn.Module):
    """Self-attention of one head over all frames, without positions. [batch, width, frames]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, width, EPSILON)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)

    def forward(self, signal: Tensor) -> Tensor:
        projected = self.query_key_value(self.norm(signal).mT).unsqueeze(1)  # one head
        query, key, value = projected.chunk(3, dim=-1)
        attended = functional.scaled_dot_product_attention(query, key, value).squeeze(1)
        return signal + self.project_out(attended).mT


class ConvNeXtLayer(nn.Module):
    """A ConvNeXt block with the normalisation and activation of Vocos. [batch, frames, width]."""

    def __init__(self, width: int, hidden: int, conditions: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = _layer_norm(width, conditions)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), scale))

    def forward(self, frames: Tensor, condition: int) -> Tensor:
        mixed = _normalise(self.norm, self.depthwise(frames.mT).mT, condition)
        return frames + self.scale * self.contract(functional.gelu(self.expand(mixed)))


class InverseSTFT(nn.Module):
    """Overlap-add of Hann-windowed frames of 4 * hop samples, divided by the sum of the squared windows.

    `same` padding: the outer 1.5 hops at either end, which no full set of windows covers, are cut off, so
    that the result has frames * hop samples.
    """

    window: Tensor

    def __init__(self, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.register_buffer("window", torch.hann_window(OVERLAP * hop), persistent=False)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Audio [batch, frames * hop] of a complex `spectrum` [batch, frames, 2 * hop + 1]."""
        frames = spectrum.shape[1]
        pieces = (torch.fft.irfft(spectrum, OVERLAP * self.hop) * self.window).unflatten(-1, (OVERLAP, -1))
        audio = pieces.new_zeros(len(pieces), frames + OVERLAP - 1, self.hop)
        for index in range(OVERLAP):
            audio[:, index : index + frames] += pieces[:, :, index]
        cut = (OVERLAP - 1) * self.hop // 2, (OVERLAP - 1) * self.hop - (OVERLAP - 1) * self.hop // 2
        whole = (audio / self._coverage(frames)).flatten(1)
        return whole[:, cut[0] : whole.shape[1] - cut[1]]

    def _coverage(self, frames: int) -> Tensor:
        """Sum of the squared windows [frames + 3, hop]; 1 where there is none."""
        block = torch.arange(frames + OVERLAP - 1, device=self.window.device)[:, None]
        start = block - torch.arange(OVERLAP, device=self.window.device)
        present = ((start >= 0) & (start < frames)).to(self.window.dtype)
        total = present @ self.window.square().unflatten(0, (OVERLAP, -1))
        return torch.where(total > 1e-11, total, 1.0)


class VocosDecoder(nn.Module):
    """Residual and attention blocks, ConvNeXt layers, and a head of log magnitudes and phases.

    width, hidden, blocks: channels, channels within a ConvNeXt layer, number of these.
    conditions: sets of layer normalisation weights. Training draws one of them at every call, evaluation
        takes the first: the released models have 4, which all stand for the same thing. 0: a plain layer
        normalisation.
    """

    MAX_MAGNITUDE = 100.0

    def __init__(
        self,
        *,
        hop: int = 320,
        dim: int = 512,
        width: int = 768,
        hidden: int = 2304,
        blocks: int = 12,
        conditions: int = 0,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.conditions = conditions
        self.embed = nn.Conv1d(dim, width, 7, padding=3)
        self.norm_in = _layer_norm(width, conditions)
        self.convnext = nn.ModuleList(
            ConvNeXtLayer(width, hidden, conditions, 1 / blocks) for _ in range(blocks)
        )
        self.norm_out = nn.LayerNorm(width, EPSILON)
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.context = nn.Sequential(
            ResidualBlock(width, dropout),
            ResidualBlock(width, dropout),
            AttentionBlock(width),
            ResidualBlock(width, dropout),
            ResidualBlock(width, dropout),
            nn.GroupNorm(GROUPS, width, EPSILON),
        )
        self.project_out = nn.Linear(width, OVERLAP * hop + 2)
        self.inverse = InverseSTFT(hop)

    def hidden_frames(self, features: Tensor) -> Tensor:
        """What the head sees, [batch, frames, width]."""
        condition = int(torch.randint(self.conditions, ())) if self.training and self.conditions > 1 else 0
        frames = self.context(self.embed(features.mT)).mT.contiguous()
        frames = _normalise(self.norm_in, frames, condition)
        for layer in self.convnext:
            frames = layer(frames, condition)
        return self.norm_out(frames)

    def forward(self, features: Tensor) -> Tensor:
        projected = self.project_out(self.hidden_frames(features))
        with torch.autocast(device_type=features.device.type, enabled=False):
            logarithm, phase = projected.float().chunk(2, dim=-1)
            # Clamped before exp: afterwards, an overflow would make the gradient NaN.
            magnitude = logarithm.clamp(max=math.log(self.MAX_MAGNITUDE)).exp()
            return self.inverse(torch.polar(magnitude, phase))


def _layer_norm(width: int, conditions: int) -> nn.Module:
    return ConditionalLayerNorm(width, conditions) if conditions else nn.LayerNorm(width, EPSILON)


def _normalise(norm: nn.Module, frames: Tensor, condition: int) -> Tensor:
    return norm(frames, condition) if isinstance(norm, ConditionalLayerNorm) else norm(frames)
