"""Style of all figures: one colour and marker for each quantizer, and files of reproducible bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from analysis.figures import fonts
from analysis.results.labels import series
from analysis.results.spreadsheet import plain_frame

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SINGLE_COLUMN = 3.4  # inches
DOUBLE_COLUMN = 7.0
MOST_LETTERS = 48  # of a label
DEFAULT_FORMATS = ("pdf", "svg", "png")

# The palette of Okabe and Ito (2008), and more colours that stay apart from it with every common colour
# vision deficiency (tests/analysis/figures/test_colours.py). A lattice has the colour of its name.
_KNOWN = {
    "none": ("#000000", "*"),
    "vq": ("#E69F00", "s"),
    "rvq": ("#4D3300", "D"),
    "fsq": ("#009E73", "^"),
    "q2d2-hex": ("#D55E00", "h"),
    "q2d2-rect": ("#0072B2", "o"),
    "q2d2-rhombic": ("#CC79A7", "d"),
    "D4": ("#80CE75", "p"),
    "E8": ("#3A1FD1", "X"),
    "Leech": ("#5A4A78", "P"),
    "trellis": ("#B0003A", "<"),
    "q2d2-hex-released": ("#7A3300", "H"),  # as the ideal grids, in another shade
    "q2d2-rect-released": ("#56B4E9", "8"),
    "q2d2-rhombic-released": ("#5D3A9B", "D"),
    "soundstream-rvq": ("#40B0A6", ">"),
}
_OTHERS = ("#56B4E9", "#7F7F7F", "#5D3A9B", "#994F00", "#40B0A6", "#1A85FF", "#4B0092", "#B2A100")
_MARKERS = ("v", "<", ">", "P", "X", "p", "8", "H")

# Of systems that share colour and marker, in turn: how much of the marker is filled, and dashes of the line.
_FILLS = ("full", "none", "left", "top")
_DASHES = ("-", "--", ":", "-.")

_BASE: dict[str, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "savefig.facecolor": "white",
    "svg.hashsalt": "codecbench",
    "pdf.fonttype": 42,
    "figure.dpi": 100,
    # Hinting makes words wider or narrower by the resolution, so that a layout made at one clips at another.
    "text.hinting": "none",
}
STYLES: dict[str, dict[str, Any]] = {
    "paper": {
        "font.size": 7,
        "axes.titlesize": 7,
        "figure.titlesize": 8,
        "legend.fontsize": 6,
        "axes.linewidth": 0.6,
        "lines.linewidth": 1.0,
        "lines.markersize": 4,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "savefig.dpi": 300,
    },
    "talk": {
        "font.size": 11,
        "axes.titlesize": 11,
        "figure.titlesize": 13,
        "legend.fontsize": 9,
        "lines.linewidth": 2.0,
        "lines.markersize": 7,
        "savefig.dpi": 200,
    },
    "web": {
        "font.size": 9,
        "axes.titlesize": 9,
        "figure.titlesize": 11,
        "legend.fontsize": 8,
        "lines.linewidth": 1.5,
        "lines.markersize": 5,
        "savefig.dpi": 120,
    },
}
_SCALE = {"paper": 1.0, "talk": 1.6, "web": 1.35}


class StyleError(ValueError):
    """An unknown figure style."""


@contextmanager
def style(name: str = "paper") -> Iterator[float]:
    """Apply a figure style; yields the factor by which sizes in inches grow with its type.

    Raises:
        StyleError: unknown name.
    """
    import matplotlib

    if name not in STYLES:
        raise StyleError(f"unknown figure style {name!r}; known: {', '.join(STYLES)}")

    families = fonts.families()
    letters = {"font.family": families, "mathtext.fontset": "custom", "mathtext.fallback": "stixsans"}
    letters |= {f"mathtext.{kind}": families[0] for kind in ("rm", "it", "bf", "sf", "tt", "cal")}
    settings: Any = {**_BASE, **letters, **STYLES[name]}
    with matplotlib.rc_context(settings):
        yield _SCALE[name]


def appearance(label: str, quantizer: str = "") -> tuple[str, str]:
    """The colour and marker of a system, at every rate: those of its quantizer, or some that depend on its
    name alone."""
    name = series(label)
    for known in (name, quantizer):
        if known in _KNOWN:
            return _KNOWN[known]
    number = sum(place * ord(letter) for place, letter in enumerate(name, 1))
    return _OTHERS[number % len(_OTHERS)], _MARKERS[number // len(_OTHERS) % len(_MARKERS)]


class Look(NamedTuple):
    """The look of a system in a figure of several.

    arm: which of those that share colour and marker, from 0: a study may train a quantizer in several ways.
    """

    colour: str
    marker: str
    arm: int = 0

    @property
    def points(self) -> dict[str, Any]:
        """Arguments of matplotlib for the markers."""
        look: dict[str, Any] = {"color": self.colour, "marker": self.marker}
        fill = _FILLS[self.arm % len(_FILLS)]
        if fill == "none":
            look["markerfacecolor"] = "white"
        elif fill != "full":
            look |= {"fillstyle": fill, "markerfacecoloralt": "white"}
        return look

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of matplotlib for a line with markers."""
        return {**self.points, "linestyle": _DASHES[self.arm % len(_DASHES)]}


def looks(quantizers: Mapping[str, str]) -> dict[str, Look]:
    """The look of each system, by its name; quantizers: the quantizer of each, in the order of the legend.

    The same end of a name ("rvq steps=0", "fsq steps=0") is the same arm for all quantizers, as far as they
    have as many.
    """
    alike: dict[tuple[str, str], list[str]] = {}
    for name, quantizer in quantizers.items():
        alike.setdefault(appearance(name, quantizer), []).append(name)
    shared = [name for names in alike.values() if len(names) > 1 for name in names]
    ends = list(dict.fromkeys(name.removeprefix(quantizers[name]) for name in shared))
    arms = {name: ends.index(name.removeprefix(quantizers[name])) for name in shared}
    chosen: dict[str, Look] = {}
    for look, names in alike.items():
        own = [arms.get(name, 0) for name in names]
        if len({arm % len(_FILLS) for arm in own}) < len(own):  # two would look alike: count them anew
            own = list(range(len(names)))
        chosen |= {name: Look(*look, arm) for name, arm in zip(names, own, strict=True)}
    return chosen


def shown(label: str) -> str:
    """A label as figures show it: without its middle where it is long, and with no letter read as a command.

    Matplotlib takes `$` for mathematics, and leaves names that begin with `_` out of legends.
    """
    half = MOST_LETTERS // 2
    short = label if len(label) <= MOST_LETTERS else f"{label[:half]}…{label[1 - half :]}"
    return (" " if short.startswith("_") else "") + short.replace("$", r"\$")


def legend_below(figure: Figure, handles: Mapping[str, Any], columns: int) -> None:
    """Name `handles` below the panels, in at most `columns`, fewer where the figure is too narrow."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    for ncols in range(min(columns, len(handles)), 0, -1):
        names = [shown(name) for name in handles]
        legend = figure.legend(list(handles.values()), names, loc="outside lower center", ncols=ncols)
        if ncols == 1 or legend.get_window_extent(renderer).width <= figure.bbox.width:
            return
        legend.remove()


def save(
    figure: Figure, stem: Path, formats: Iterable[str] = DEFAULT_FORMATS, data: pd.DataFrame | None = None
) -> list[Path]:
    """Write `stem.<format>` and, with `data`, `stem.csv`; the same figure gives the same bytes."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    lay_out(figure)
    written = []
    for kind in formats:
        path = stem.with_name(f"{stem.name}.{kind}")
        _print(figure, path, kind)
        written.append(path)
    if data is not None:
        path = stem.with_name(f"{stem.name}.csv")
        plain_frame(data).to_csv(path, index=False, lineterminator="\n")
        written.append(path)
    return written


def lay_out(figure: Figure) -> None:
    """Place all that a figure shows, once and not for every format."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def _print(figure: Figure, path: Path, kind: str) -> None:
    """As `figure.savefig` prints, without the drawing that it does before every format for the layout."""
    from matplotlib import rcParams

    dpi = figure.dpi if rcParams["savefig.dpi"] == "figure" else float(rcParams["savefig.dpi"])
    figure.set_dpi(dpi)
    if kind == "pdf":
        from matplotlib.backends.backend_pdf import FigureCanvasPdf

        FigureCanvasPdf(figure).print_pdf(path, metadata={"CreationDate": None})
    elif kind == "svg":
        from matplotlib.backends.backend_svg import FigureCanvasSVG

        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None})
    elif kind == "png":
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    else:
        raise StyleError(f"unknown format {kind!r}; known: {', '.join(DEFAULT_FORMATS)}")
