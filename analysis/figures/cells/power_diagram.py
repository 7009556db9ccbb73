"""Power diagrams in the plane: Voronoi cells, and slices of Voronoi diagrams of more dimensions.

The cell of a site is where |y - site|^2 + offset is least. With equal offsets it is the Voronoi cell. For a
diagram of more dimensions, site is the foot of a point in the plane, offset its squared distance from the
plane (Aurenhammer, "Power diagrams: properties, algorithms and applications", SIAM J. Comput. 16, 1987).
"""

from __future__ import annotations

import numpy as np

_TILES = 12  # along each side of the box, for ruling sites out
_FEW = 40  # sites up to which each is cut by all others


def power_cells(sites: np.ndarray, offsets: np.ndarray | float, box: np.ndarray) -> list[np.ndarray]:
    """The cell of each site in the box, `[corners, 2]` counter-clockwise; `[0, 2]` where it has none.

    sites: `[n, 2]`. offsets: `[n]`, or one for all. box: `[[left, bottom], [right, top]]`.
    """
    offsets = np.broadcast_to(np.asarray(offsets, dtype=float), len(sites))
    found = [np.empty((0, 2))] * len(sites)
    (left, bottom), (right, top) = box
    whole = np.array([[left, bottom], [right, bottom], [right, top], [left, top]])
    middle = box.mean(axis=0)
    candidates = _candidates(sites, offsets, box)
    sites, offsets = sites[candidates], offsets[candidates]
    heights = ((sites - middle) ** 2).sum(axis=1) + offsets
    for site, rivals in enumerate(_rivals(sites - middle, heights)):
        if rivals is None:
            continue
        polygon = whole
        # Nearer to the site than to a rival: 2 y . (rival - site) <= height of rival - height of site.
        for rival in rivals:
            normal = 2 * (sites[rival] - sites[site])
            polygon = _cut(polygon, normal, heights[rival] - heights[site] + normal @ middle)
            if not len(polygon):
                break
        found[candidates[site]] = polygon
    return found


def _candidates(sites: np.ndarray, offsets: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The sites that can be least in the box: in some tile their least is below all others' greatest."""
    edges = [np.linspace(low, high, _TILES + 1) for low, high in box.T]
    able = np.zeros(len(sites), dtype=bool)
    for left, right in zip(edges[0][:-1], edges[0][1:], strict=True):
        for bottom, top in zip(edges[1][:-1], edges[1][1:], strict=True):
            low, high = np.array([left, bottom]), np.array([right, top])
            nearest = ((np.clip(sites, low, high) - sites) ** 2).sum(axis=1) + offsets
            farthest = (np.maximum(np.abs(sites - low), np.abs(sites - high)) ** 2).sum(axis=1) + offsets
            able |= nearest <= farthest.min()
    return np.flatnonzero(able)


def _rivals(sites: np.ndarray, heights: np.ndarray) -> list[list[int] | None]:
    """The sites that can bound each cell; None for a site without one.

    They are the neighbours in the lower hull of the sites lifted to their heights.
    """
    from scipy.spatial import ConvexHull, QhullError

    count = len(sites)
    if count <= _FEW:
        return _all_others(count)
    size = max(float(np.ptp(sites, axis=0).max()), 1e-300)
    try:
        hull = ConvexHull(np.column_stack([sites / size, heights / size**2]))
    except QhullError:  # all on one line, or on one paraboloid's plane section
        return _all_others(count)
    near: list[set[int]] = [set() for _ in range(count)]
    for corners in hull.simplices[hull.equations[:, 2] < 1e-12].tolist():
        for corner in corners:
            near[corner].update(corners)
    return [sorted(others - {site}) if others else None for site, others in enumerate(near)]


def _all_others(count: int) -> list[list[int] | None]:
    return [[other for other in range(count) if other != one] for one in range(count)]


def _cut(polygon: np.ndarray, normal: np.ndarray, limit: float) -> np.ndarray:
    """The part of a convex polygon where `y . normal <= limit`."""
    over = polygon @ normal - limit
    over[np.abs(over) < 1e-12 * (abs(limit) + np.abs(polygon @ normal).max())] = 0  # a corner that stays one
    keep = over <= 0
    if keep.all():
        return polygon
    if not keep.any():
        return polygon[:0]
    corners = []
    for place in range(len(polygon)):
        following = place + 1 - len(polygon)  # the first after the last
        here, there = over[place], over[following]
        if keep[place]:
            corners.append(polygon[place])
        if here < 0 < there or there < 0 < here:
            share = here / (here - there)
            corners.append(polygon[place] + share * (polygon[following] - polygon[place]))
    return np.array(corners) if len(corners) > 2 else polygon[:0]
