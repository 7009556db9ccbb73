"""Weight normalisation (Salimans and Kingma 2016, arXiv 1602.07868), and its removal for inference."""

from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrizations, parametrize

Layer = TypeVar("Layer", bound=nn.Module)


def weight_norm(layer: Layer) -> Layer:
    """`layer` with its weight split into one magnitude an output channel and a direction."""
    parametrizations.weight_norm(layer)
    return layer


def fold_weight_norm(root: Layer) -> Layer:
    """Replace magnitude and direction by the weight they stand for, in every layer below `root`.

    What `root` computes stays the same; it no longer computes weights at every call. Changes `root` in place
    and returns it. Layers without weight normalisation are left alone.
    """
    for layer in root.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")
    return root
