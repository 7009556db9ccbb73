"""Colours of systems stay apart for every common colour vision."""

from itertools import combinations

import numpy as np
import pytest

from analysis.figures.style import appearance

SYSTEMS = (
    *("none", "vq", "rvq", "fsq", "q2d2-hex", "q2d2-rect", "q2d2-rhombic", "D4", "E8", "Leech", "trellis"),
)
# Machado, Oliveira and Fernandes (2009), table 1, severity 1.0; they act on linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
}
LEAST = 17  # CIE 1976 colour difference, of which 2.3 can just be noticed


def linear(colour: str) -> np.ndarray:
    """`#RRGGBB` as linear RGB (IEC 61966-2-1)."""
    value = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lightness_and_hue(rgb: np.ndarray) -> np.ndarray:
    """CIE 1976 L*, a*, b* of linear RGB, white point D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = to_xyz @ rgb / [0.9505, 1.0, 1.089]
    root = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("vision", VISIONS)
def test_no_two_systems_look_alike(vision: str) -> None:
    seen = {
        name: lightness_and_hue(np.clip(np.array(VISIONS[vision]) @ linear(appearance(name)[0]), 0, 1))
        for name in SYSTEMS
    }
    apart = {pair: float(np.linalg.norm(seen[pair[0]] - seen[pair[1]])) for pair in combinations(SYSTEMS, 2)}
    assert min(apart.values()) > LEAST, min(apart, key=lambda pair: apart[pair])


def test_no_two_systems_share_a_marker() -> None:
    assert len({appearance(name)[1] for name in SYSTEMS}) == len(SYSTEMS)
