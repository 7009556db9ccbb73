"""Measure quantizers for documents: their list, their rates, their geometry."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from rich.progress import track

import quantizers
from experiments.commands.display.terminal import Console
from experiments.commands.documents.bottlenecks import (
    GeometryDocument,
    GridFigures,
    LatticeFigures,
    ListedQuantizer,
    ListQuantizersDocument,
    QuantizerRate,
    RatesDocument,
)
from quantizers.geometry import figures_of_merit

# Options that fix the rate of a quantizer.
_RATE_OPTIONS = frozenset(
    {"levels", "codebook_size", "heads", "stages", "groups", "channels", "counts", "lattice", "bound"}
)
_LISTED_DIM = 512


def listed_quantizers() -> ListQuantizersDocument:
    """Every registered quantizer."""
    listed = []
    for name in quantizers.available():
        entry = quantizers.entry(name)
        quantizer = quantizers.create(name, dim=_LISTED_DIM)
        listed.append(
            ListedQuantizer(
                name=name,
                family=entry.cls.family,
                codebook=_codebook(entry.cls),
                parameters=quantizer.learned_values,
                options=[*entry.options],
                paper=entry.paper or "",
            )
        )
    return ListQuantizersDocument(quantizers=listed)


def _codebook(cls: type[quantizers.Quantizer]) -> Literal["learned", "fixed", "none"]:
    if cls.learned:
        return "learned"
    return "none" if cls.family == "none" else "fixed"


def rates(names: Sequence[str] | None, bits: float, frame_rate: float | None, dim: int) -> RatesDocument:
    """The configuration of each quantizer nearest `bits` per frame, of those that spend bits.

    names: of registered quantizers; None is all. Raises QuantizerError for an unknown one.
    """
    nearest = []
    for name in names or quantizers.available():
        try:
            quantizer = quantizers.create(name, dim=dim, bits=bits)
        except quantizers.QuantizerError as error:
            if names and name not in quantizers.available():
                raise
            nearest.append(_none_near(name, str(error).removeprefix(f"{name}: ")))
            continue
        if quantizer.streams:
            exact = quantizer.bits_per_frame
            nearest.append(
                QuantizerRate(
                    name=name,
                    bits_per_frame=exact,
                    off=100 * (exact / bits - 1),
                    streams=quantizer.streams,
                    bitrate=exact * frame_rate if frame_rate else None,
                    token_rate=frame_rate * quantizer.tokens_per_frame if frame_rate else None,
                    codebook_sizes=[*quantizer.codebook_sizes],
                    options=_rate_options(quantizer.config),
                    reason="",
                )
            )
    return RatesDocument(bits=bits, frame_rate=frame_rate, dim=dim, quantizers=nearest)


def _none_near(name: str, reason: str) -> QuantizerRate:
    return QuantizerRate(
        name=name,
        bits_per_frame=None,
        off=None,
        streams=None,
        bitrate=None,
        token_rate=None,
        codebook_sizes=[],
        options={},
        reason=reason,
    )


def _rate_options(config: Any) -> dict[str, Any]:
    """The options of a quantizer that fix its rate."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if name in _RATE_OPTIONS
    }


def geometry(samples: int, bits: float, seed: int, console: Console) -> GeometryDocument:
    """Figures of merit of lattices and planar grids. console: where the progress is shown."""
    lattices, grids = [], []
    for name in track(
        figures_of_merit.EXACT, "lattices", transient=True, console=console, disable=console.muted
    ):
        points = max(1, samples // 20) if name == "Leech" else samples
        lattice = figures_of_merit.measure_lattice(name, points, seed)
        lattices.append(LatticeFigures.model_validate(dataclasses.asdict(lattice)))
    cases = [(source, *grid) for source in figures_of_merit.SOURCES for grid in figures_of_merit.GRIDS]
    for source, kind, spacing in track(
        cases, "grids", transient=True, console=console, disable=console.muted
    ):
        grid = figures_of_merit.measure_grid(kind, spacing, bits, source, 2 * samples, seed)
        values = {**dataclasses.asdict(grid), "levels": [*grid.levels]}
        grids.append(GridFigures.model_validate(values))
    return GeometryDocument(samples=samples, seed=seed, bits=bits, lattices=lattices, grids=grids)
