"""`codecbench voronoi`: cells of grids and lattices, without a study."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import output
from experiments.commands.options import Style, file_name, number

MOST_CELLS = 4096  # of one grid: more can be neither seen nor drawn in a minute
_SUFFIXES = (".svg", ".png", ".pdf")


def voronoi(
    quantizer: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="q2d2-hex, q2d2-rect, q2d2-rhombic (also with -released), fsq, a lattice such as A3* or E8, "
            "or tilings: the three grids at one rate",
        ),
    ],
    levels: Annotated[
        list[int] | None,
        typer.Argument(metavar="LEVELS", help="levels along x and y of each pair of channels: 7 7"),
    ] = None,
    more_levels: Annotated[
        str | None,
        typer.Option("--levels", metavar="X,Y", help="the same levels, separated by commas: 7,7"),
    ] = None,
    bits: Annotated[
        float,
        typer.Option(
            parser=number(2, math.log2(MOST_CELLS)),
            metavar="BITS",
            help="bits per pair of channels, with tilings",
        ),
    ] = 6.0,
    file: Annotated[
        Path,
        typer.Option("--output", parser=file_name, metavar="FILE", help="file to write: .svg, .png or .pdf"),
    ] = Path("voronoi.svg"),
    span: Annotated[
        Literal["cell", "edge"],
        typer.Option(
            "--range", help="range of tanh: with the cells of the outer points, or up to the points"
        ),
    ] = "cell",
    style: Style = "paper",
) -> None:
    """Draw the Voronoi cells of planar grids or of a lattice; needs no study."""
    path = file if file.suffix else file.with_suffix(".svg")
    outputs.check_file(path, suffixes=_SUFFIXES)
    numbers = _levels(levels or [], more_levels or "")

    from analysis.figures import style as styles
    from analysis.figures.cells import grids, lattices
    from analysis.figures.cells.voronoi import grids_figure
    from quantizers.geometry.lattices import DIMENSIONS
    from quantizers.option_checks import QuantizerError

    with styles.style(style) as scale:
        if quantizer == "tilings":
            title = f"The three tilings at {bits:g} bits per pair"
            figure = grids_figure(grids.tilings(bits, span), title, scale)
        elif quantizer in DIMENSIONS:
            figure = lattices.lattice_figure(quantizer, scale)
        else:
            try:
                views = grids.views_of_levels(quantizer, numbers, span)
            except (QuantizerError, grids.GeometryError) as error:
                raise typer.BadParameter(
                    f"{error}; also: tilings, and the lattices {', '.join(DIMENSIONS)}",
                    param_hint="NAME",
                ) from None
            figure = grids_figure(views, quantizer, scale)
        replaced = " (replaced the earlier file)" if path.is_file() else ""
        problem = outputs.save(path, lambda place: styles.save(figure, place.with_suffix(""), [_kind(place)]))
    if problem:
        raise outputs.OutputError(problem)
    output().say(f"wrote {path}{replaced}")


def _kind(path: Path) -> str:
    return path.suffix.lstrip(".")


def _levels(given: list[int], text: str) -> list[int]:
    """The levels of both ways of giving them. Raises BadParameter for those that cannot be drawn."""
    words = text.replace(",", " ").split()
    if wrong := [word for word in words if not (word.isascii() and word.isdigit())]:
        raise typer.BadParameter(f"{wrong[0]!r} is not a number of levels", param_hint="--levels")
    numbers = [int(word) for word in words] + given
    for x, y in zip(numbers[::2], numbers[1::2], strict=False):
        if x * y > MOST_CELLS:
            raise typer.BadParameter(
                f"{x} x {y} levels have {x * y:,} cells; at most {MOST_CELLS:,} can be drawn",
                param_hint="--levels",
            )
    return numbers
