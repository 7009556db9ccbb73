"""Making a trained codec fast: what it computes stays the same, what it can no longer do is learn."""

import torch
from torch import Tensor, nn

from codec.model import Codec
from codec.weight_norm import fold_weight_norm


class PackedLinear(nn.Module):
    """A linear layer whose weight lies in the order that oneDNN multiplies by, which torch otherwise
    restores at every call: a quarter less time for some tens of frames. CPU, float32, no gradient."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, frames: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise(frames.float(), self.packed, self.bias, "none", [], "")

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def prepare(codec: Codec) -> Codec:
    """Put `codec` into eval mode, fold weight normalisation and, on a CPU, pack linear layers.

    Changes `codec` in place and returns it. Save the codec before: afterwards its state dictionary differs,
    and it cannot be moved or trained. If torch lacks oneDNN, layers are not packed.
    """
    fold_weight_norm(codec).eval().requires_grad_(False)
    if torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        for side in (codec.encoder, codec.decoder):  # not the quantizer: its rounding must not change
            _pack(side)
    return codec


def _pack(root: nn.Module) -> None:
    for name, layer in root.named_children():
        if (
            type(layer) is nn.Linear
            and layer.weight.device.type == "cpu"
            and layer.weight.dtype == torch.float32
        ):
            setattr(root, name, PackedLinear(layer))
        else:
            _pack(layer)
