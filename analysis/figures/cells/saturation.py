"""Saturation of the channels of planar views, from the latents that a run has logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from quantizers.geometry.views import PlanarView


class Saturation(NamedTuple):
    """Shares of the latents of a pair beyond the centres of the outermost cells, in x and in y.

    saturated: whether one of them is above its limit (`quantizers.saturation`).
    """

    x: float
    y: float
    saturated: bool

    @property
    def note(self) -> str:
        """The words of a panel."""
        what = "saturated" if self.saturated else "beyond outer centres"
        return f"{what}: {self.x:.0%} in x, {self.y:.0%} in y"


def saturation_of(views: Sequence[PlanarView], latents: Sequence[np.ndarray]) -> list[Saturation]:
    """Saturation of each pair by its latents [samples, 2], in grid units; empty without latents."""
    told = []
    for view, sample in zip(views, latents, strict=False):
        shares = (np.abs(sample) > np.array(view.ranges.centres)).mean(axis=0)
        saturated = bool((shares > np.array(view.ranges.limits)).any())
        told.append(Saturation(float(shares[0]), float(shares[1]), saturated))
    return told
