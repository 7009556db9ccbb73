"""Commands that read a study: its table, figures, report, paper kit and power."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import messages, output
from experiments.commands.options import (
    OutputFormat,
    StudyName,
    Style,
    TrackingUri,
    file_name,
    names_of,
    number,
)
from experiments.common.machine import cores

if TYPE_CHECKING:
    from analysis import Results

_FIGURE_FORMATS = ("pdf", "svg", "png", "gif", "mp4")
Bitrate = Annotated[
    float | None,
    typer.Option(
        parser=number(0, above=True),
        metavar="BIT/S",
        help="rate of tables and figures that show one rate; default: the rate with the most rows, and "
        "the highest of equals",
    ),
]
OnlyFigures = Annotated[
    str | None,
    typer.Option(
        "--only",
        metavar="NAMES",
        help="kinds of figures, separated by commas, such as effects,rate-distortion,voronoi; a wrong name "
        "lists all names; default: all",
    ),
]


def table(
    study: StudyName,
    columns: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="columns, separated by commas, or all (the default of csv and json); a wrong name lists "
            "all names",
        ),
    ] = None,
    format: Annotated[
        Literal["console", "markdown", "latex", "csv", "html", "json"],
        typer.Option(help="output format; docs/json.md describes the JSON document"),
    ] = "console",
    file: Annotated[
        Path | None,
        typer.Option("--output", parser=file_name, metavar="FILE", help="write to this file"),
    ] = None,
    bitrate: Annotated[
        float | None,
        typer.Option(parser=number(0, above=True), metavar="BIT/S", help="show this rate first"),
    ] = None,
    allow_rate_mismatch: Annotated[
        bool, typer.Option("--allow-rate-mismatch", help="compare rows of all rates in one group")
    ] = False,
    intervals: Annotated[
        Literal["plus-minus", "range"],
        typer.Option(help="notation of 95 % intervals: 1.20 ± 0.05 or 1.20 [1.15, 1.25]"),
    ] = "plus-minus",
    paper_names: Annotated[
        list[str] | None,
        typer.Option(
            "--published",
            metavar="NAME",
            help="add a table from a paper, in grey (not in csv); a wrong name lists all names",
        ),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Print the comparison table of a study, with 95 % intervals and tests."""
    outputs.check_file(file)
    keys = None if columns is None else names_of(columns, "--columns")

    from analysis import load
    from analysis.results.columns import select
    from analysis.results.study_metrics import ALL
    from analysis.statistics.matched_rates import at_bitrate
    from analysis.tables import comparison, console, formats, published

    if keys is None and format in ("csv", "json"):
        keys = [ALL]  # for programs
    select(key for key in keys or () if key != ALL)  # a wrong name ends here, before the study is read
    papers = [published.load(name) for name in paper_names or []]
    kind = "markdown" if format == "console" else format
    below = [published.render(paper, kind) for paper in papers]
    result = comparison.comparison(
        at_bitrate(load(study, tracking_uri), bitrate),
        keys,
        allow_rate_mismatch=allow_rate_mismatch,
        intervals=intervals,
    )
    if format == "console" and file is None:
        console.print_table(result)
        for paper in papers:
            published.show(paper)
        return
    if format == "json":
        from experiments.commands.documents import document, studies

        text = document.text_of(studies.table_document(study, result)) + "\n"
    else:
        text = "\n".join([formats.render(result, format), *below])
    if file is None:
        typer.echo(text, nl=False)
    elif problem := outputs.save(file, lambda path: path.write_text(text, encoding="utf-8")):
        raise outputs.OutputError(problem)
    else:
        messages().say(f"wrote {file}")


def effects(
    studies: Annotated[
        list[str], typer.Argument(metavar="STUDY", help="names of studies in the tracking store")
    ],
    columns: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="metrics, separated by commas; default: those of the studies"),
    ] = None,
    format: Annotated[
        Literal["console", "markdown", "latex", "csv", "html", "json"],
        typer.Option(help="output format; json has the document of codecbench table"),
    ] = "console",
    intervals: Annotated[
        Literal["plus-minus", "range"],
        typer.Option(help="notation of 95 % intervals: 1.20 ± 0.05 or 1.20 [1.15, 1.25]"),
    ] = "plus-minus",
    figure: Annotated[
        Path | None,
        typer.Option(
            parser=file_name, metavar="FILE", help="also draw the differences to a file: .png, .svg or .pdf"
        ),
    ] = None,
    style: Style = "paper",
    bitrate: Annotated[
        float | None,
        typer.Option(
            parser=number(0, above=True), metavar="BIT/S", help="show this rate only; default: all rates"
        ),
    ] = None,
    effect: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="show this effect only; repeatable, default: all effects"),
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Print the contrasts that studies were made for, by effect, with 95 % intervals."""
    outputs.check_file(figure, "--figure", (".png", ".svg", ".pdf"))
    keys = None if columns is None else names_of(columns, "--columns")

    from analysis import load
    from analysis.figures.effects import effect_figure
    from analysis.figures.style import save as save_figure
    from analysis.figures.style import style as styled
    from analysis.statistics.contrasts import contrasts_of_studies
    from analysis.tables import console, formats
    from analysis.tables.contrasts import contrast_table, metrics_of

    found = [load(study, tracking_uri) for study in dict.fromkeys(studies)]
    table = contrast_table(found, keys, intervals=intervals, bitrate=bitrate, effects=effect)
    if format == "console":
        console.print_table(table)
    elif format == "json":
        from experiments.commands.documents import document
        from experiments.commands.documents import studies as documents

        document.emit(documents.table_document(", ".join(dict.fromkeys(studies)), table))
    else:
        typer.echo(formats.render(table, format), nl=False)
    if figure is not None:
        with styled(style) as scale:
            frame = contrasts_of_studies(found, metrics_of(found, keys), bitrate, effect)
            drawn = effect_figure(frame, scale)
            kind = figure.suffix[1:]
            problem = outputs.save(figure, lambda path: save_figure(drawn, path.with_suffix(""), [kind]))
        if problem:
            raise outputs.OutputError(problem)
        messages().say(f"wrote {figure}")


def figures(
    study: StudyName,
    folder: Annotated[Path, typer.Option("--output", metavar="FOLDER", help="folder to write to")] = Path(
        "figures"
    ),
    style: Style = "paper",
    formats: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="file formats, separated by commas: pdf, svg, png; for animations gif, mp4 (needs ffmpeg)",
        ),
    ] = ",".join(_FIGURE_FORMATS),
    only: OnlyFigures = None,
    bitrate: Bitrate = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Draw the figures of a study, each with its data as CSV."""
    kinds = names_of(formats, "--formats")
    for kind in kinds:
        if kind not in _FIGURE_FORMATS:
            raise typer.BadParameter(f"{kind!r}: give some of {', '.join(_FIGURE_FORMATS)}")
    outputs.check_folder(folder)
    wanted = _figure_kinds(only)

    results = _results_to_draw(study, tracking_uri, bitrate)

    from analysis.figures import writing

    console = output()
    paths = writing.write_all(
        results, folder, style_name=style, formats=kinds, only=wanted, processes=cores()
    )
    for path in paths:
        console.say(str(path))
    if not paths:
        console.say("nothing to draw: the study has no data for these figures in these formats")


def report(
    study: StudyName,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="folder to write to; default: report-STUDY"),
    ] = None,
    only: OnlyFigures = None,
    bitrate: Bitrate = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write a static web page with tables, figures and listening examples; it needs no server."""
    place = folder or outputs.named_after("report-", study)
    outputs.check_folder(place)
    kinds = _figure_kinds(only)

    results = _results_to_draw(study, tracking_uri, bitrate)

    from analysis.reports.report import write_report

    output().say(f"wrote {write_report(results, place, only=kinds, processes=cores())}")


def paper(
    study: StudyName,
    folder: Annotated[
        Path | None,
        typer.Option("--output", metavar="FOLDER", help="folder to write to; default: paper-STUDY"),
    ] = None,
    only: OnlyFigures = None,
    bitrate: Bitrate = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write LaTeX tables, figures and a main.tex that includes them, with the provenance of each file."""
    place = folder or outputs.named_after("paper-", study)
    outputs.check_folder(place)
    kinds = _figure_kinds(only)

    results = _results_to_draw(study, tracking_uri, bitrate)

    from analysis.reports.paper import write_paper

    output().say(f"wrote {write_paper(results, place, only=kinds, processes=cores())}")


def power(
    study: StudyName,
    effect: Annotated[
        float,
        typer.Option(
            parser=number(0, above=True),
            metavar="NUMBER",
            help="true difference to detect, in the unit of the metric",
        ),
    ],
    metric: Annotated[str, typer.Option(metavar="NAME", help="a metric of the study")] = "pesq",
    wanted: Annotated[
        float,
        typer.Option(
            "--power",
            metavar="P",
            help="wanted probability that the difference is significant",
            min=0.5,
            max=0.999,
        ),
    ] = 0.8,
    bitrate: Annotated[
        float | None,
        typer.Option(
            parser=number(0, above=True),
            metavar="BIT/S",
            help="rate of the compared rows; default: the rate with the most rows, and the highest of equals",
        ),
    ] = None,
    format: OutputFormat = "console",
    tracking_uri: TrackingUri = None,
) -> None:
    """Estimate how many seeds and utterances a difference needs to become significant.

    The variances are those of the finished runs of the study.
    """
    from analysis import load
    from analysis.statistics import matched_rates, power

    results = load(study, tracking_uri)
    labels = matched_rates.coded_labels(results, bitrate)
    frame = power.power_frame(results, metric, effect, labels, wanted=wanted)
    if format == "json":
        from experiments.commands.documents import document, studies

        document.emit(studies.power_document(study, frame, metric, effect, wanted))
    else:
        power.print_power(frame, metric, effect, wanted, matched_rates.rate_in_words(results, labels))


def _figure_kinds(only: str | None) -> list[str] | None:
    """The kinds of figures that `--only` names. Raises BadParameter for a wrong name."""
    if only is None:
        return None
    names = [name.replace("-", "_") for name in names_of(only, "--only")]

    from analysis.figures.writing import KINDS

    for name in names:
        if name not in KINDS:
            kinds = ", ".join(kind.replace("_", "-") for kind in KINDS)
            raise typer.BadParameter(
                f"{name!r} is no kind of figure; give some of {kinds}", param_hint="--only"
            )
    return names


def _results_to_draw(study: str, tracking_uri: str | None, bitrate: float | None) -> Results:
    """Read a study, while the processes that draw its figures start."""
    from analysis import load
    from analysis.figures import writing
    from analysis.statistics.matched_rates import at_bitrate

    writing.prepare()
    return at_bitrate(load(study, tracking_uri), bitrate)
