"""Commands that read a study: tables, figures, Voronoi plots."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

StoreOption = Annotated[
    str | None,
    typer.Option("--tracking-uri", help="MLflow store; default MLFLOW_TRACKING_URI, or ./mlflow.db"),
]
StyleOption = Annotated[str, typer.Option("--style", help="paper, talk or web")]


def table(
    study: Annotated[str, typer.Argument(help="name of the study")],
    columns: Annotated[
        str | None, typer.Option(help="comma-separated; a wrong name lists the known ones")
    ] = None,
    format: Annotated[str, typer.Option(help="console, markdown, latex, csv or html")] = "console",
    output: Annotated[Path | None, typer.Option(help="write to a file instead")] = None,
    bitrate: Annotated[float | None, typer.Option(help="compare at this rate in bit/s")] = None,
    allow_rate_mismatch: Annotated[bool, typer.Option(help="put all rates side by side")] = False,
    intervals: Annotated[str, typer.Option(help="plus-minus or range")] = "plus-minus",
    published: Annotated[
        list[str] | None,
        typer.Option(help="a paper's table below it, in grey (not in csv); a wrong name lists them"),
    ] = None,
    tracking_uri: StoreOption = None,
) -> None:
    """Print the comparison table of a study."""
    from analysis import load
    from analysis.tables import published as published_tables
    from analysis.tables.comparison import comparison
    from analysis.tables.console import print_table
    from analysis.tables.formats import render

    papers = [published_tables.load(name) for name in published or []]
    kind = "markdown" if format == "console" else format
    below = [published_tables.render(paper, kind) for paper in papers]
    keys = [key.strip() for key in columns.split(",")] if columns else None
    result = comparison(
        load(study, tracking_uri),
        keys,
        bitrate=bitrate,
        allow_rate_mismatch=allow_rate_mismatch,
        intervals=intervals,
    )
    if format == "console" and output is None:
        print_table(result)
        for paper in papers:
            published_tables.show(paper)
        return
    text = "\n".join([render(result, format), *below])
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, encoding="utf-8")
        typer.echo(f"wrote {output}")


def figures(
    study: Annotated[str, typer.Argument(help="name of the study")],
    output: Annotated[Path, typer.Option(help="folder to write to")] = Path("figures"),
    style: StyleOption = "paper",
    formats: Annotated[
        str, typer.Option(help="comma-separated: pdf, svg, png; gif, mp4 (with ffmpeg) of animations")
    ] = "pdf,svg,png,gif,mp4",
    tracking_uri: StoreOption = None,
) -> None:
    """Write every figure that a study has the data for, and beside each the CSV that it shows."""
    from analysis.figures.writing import prepare, write_all
    from experiments.common.machine import cores

    prepare()
    from analysis import load

    kinds = [kind.strip() for kind in formats.split(",")]
    results = load(study, tracking_uri)
    for path in write_all(results, output, style_name=style, formats=kinds, processes=cores()):
        typer.echo(path)


def voronoi(
    quantizer: Annotated[
        str,
        typer.Argument(
            help="q2d2-hex, q2d2-rect, q2d2-rhombic (also with -released), fsq, a lattice such as A3* or E8, "
            "or `tilings` for the three at one rate"
        ),
    ],
    levels: Annotated[list[int] | None, typer.Argument(help="x and y of each pair of channels")] = None,
    more_levels: Annotated[
        str | None, typer.Option("--levels", help="the same, comma-separated: 7,7")
    ] = None,
    bits: Annotated[float, typer.Option(help="of a pair of channels, for `tilings`")] = 6.0,
    output: Annotated[Path, typer.Option(help="file to write; its suffix says the format")] = Path(
        "voronoi.svg"
    ),
    span: Annotated[str, typer.Option("--range", help="what tanh spans: cell or edge")] = "cell",
    style: StyleOption = "paper",
) -> None:
    """Draw the cells of grids or of a lattice, without a study."""
    from analysis.figures.cells import grids as geometry
    from analysis.figures.cells import lattices as lattice_cells
    from analysis.figures.cells.voronoi import voronoi_figure
    from analysis.figures.style import save
    from analysis.figures.style import style as styled
    from quantizers.geometry.lattices import DIMENSIONS

    given = (more_levels or "").replace(",", " ").split()
    if wrong := [part for part in given if not part.isdigit()]:
        raise typer.BadParameter(f"{wrong[0]!r} is not a number of levels", param_hint="--levels")
    numbers = [int(part) for part in given] + list(levels or [])
    if quantizer.endswith("-released"):
        span = "released"
    with styled(style) as scale:
        if quantizer == "tilings":
            three = geometry.tilings(bits)
            title = f"The three tilings at {bits:g} bits a pair"
            figure = voronoi_figure(three, title=title, reach=geometry.reach(three, span), scale=scale)
        elif quantizer in DIMENSIONS:
            figure = lattice_cells.lattice_figure(quantizer, scale)
        else:
            grids = geometry.grids_of_levels(quantizer, numbers)
            figure = voronoi_figure(grids, title=quantizer, reach=geometry.reach(grids, span), scale=scale)
        typer.echo(f"wrote {save(figure, output.with_suffix(''), [output.suffix.lstrip('.') or 'svg'])[0]}")


def report(
    study: Annotated[str, typer.Argument(help="name of the study")],
    output: Annotated[Path | None, typer.Option(help="folder to write to; default report-STUDY")] = None,
    tracking_uri: StoreOption = None,
) -> None:
    """Write a static report with tables, figures and listening; it opens from disk without a network."""
    from analysis.figures.writing import prepare
    from experiments.common.machine import cores

    prepare()
    from analysis import load
    from analysis.reports.report import write_report

    folder = output or Path(f"report-{study}")
    typer.echo(f"wrote {write_report(load(study, tracking_uri), folder, processes=cores())}")


def power(
    study: Annotated[str, typer.Argument(help="name of a study with two seeds or more")],
    effect: Annotated[float, typer.Option(help="difference to be shown, in the metric's unit")],
    metric: Annotated[str, typer.Option(help="a metric of the study")] = "pesq",
    power: Annotated[float, typer.Option(help="wanted probability of showing it", min=0.5, max=0.999)] = 0.8,
    tracking_uri: StoreOption = None,
) -> None:
    """How many seeds and utterances would show a difference of a given size, judged by a study's scores."""
    from analysis import load
    from analysis.statistics.matched_rates import coded_labels
    from analysis.statistics.power import power_frame, print_power

    results = load(study, tracking_uri)
    print_power(
        power_frame(results, metric, effect, coded_labels(results), wanted=power), metric, effect, power
    )


def paper(
    study: Annotated[str, typer.Argument(help="name of the study")],
    output: Annotated[Path | None, typer.Option(help="folder to write to; default paper-STUDY")] = None,
    tracking_uri: StoreOption = None,
) -> None:
    """Write all tables and figures, a main.tex that includes them, and provenance.json."""
    from analysis.figures.writing import prepare
    from experiments.common.machine import cores

    prepare()
    from analysis import load
    from analysis.reports.paper import write_paper

    folder = output or Path(f"paper-{study}")
    typer.echo(f"wrote {write_paper(load(study, tracking_uri), folder, processes=cores())}")
