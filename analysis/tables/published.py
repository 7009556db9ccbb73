"""Numbers that papers state, to look at beside measured rows; they were not measured by this protocol."""

from __future__ import annotations

import html
import io
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.results.columns import COLUMNS
from analysis.tables.formats import frame_web
from analysis.tables.latex import frame_latex
from quantizers.suggestions import did_you_mean

if TYPE_CHECKING:
    from rich.console import Group

WARNING = "Published, not measured here: other audio, other protocols, other bandwidths. Do not rank across."
_RATES = {"bitrate_kbps": "kbit/s", "streams": "streams", "token_rate": "tokens/s"}


class PublishedError(ValueError):
    """An unknown table; the message lists those that there are."""


@dataclass(frozen=True)
class Published:
    """A table of a paper.

    cells: one row per value: system, bitrate_kbps, streams, token_rate, metric, value, confidence.
    about: what the file says of itself, by keyword: title, source, note, confidence.
    """

    name: str
    cells: pd.DataFrame
    about: dict[str, str]

    def wide(self) -> pd.DataFrame:
        """The table with a row for each system and rate, as texts; its confidence follows each value."""
        keys = ["system", *_RATES]
        texts = self.cells.assign(
            text=[f"{cell.value:g} {cell.confidence}" for cell in self.cells.itertuples()],
            **{key: [f"{v:g}" if v == v else "" for v in self.cells[key]] for key in _RATES},
        )
        order = texts[keys].drop_duplicates()
        table = texts.pivot_table(index=keys, columns="metric", values="text", aggfunc="first", sort=False)
        table = table.reindex(pd.MultiIndex.from_frame(order)).fillna("").reset_index()
        names = {key: COLUMNS[key].header if key in COLUMNS else key for key in table.columns}
        return table.rename(columns=names | _RATES | {"utmos": "UTMOS"})


def available() -> tuple[str, ...]:
    """Names of the published tables."""
    return tuple(
        sorted(path.name.removesuffix(".csv") for path in _folder().iterdir() if path.name.endswith(".csv"))
    )


def load(name: str) -> Published:
    """The published table `name`. Raises PublishedError."""
    if name not in available():
        hint = did_you_mean(name, available())
        raise PublishedError(f"no published table {name!r}; {hint}there are: {', '.join(available())}")
    text = (_folder() / f"{name}.csv").read_text(encoding="utf-8")
    comments = [line[1:].partition(":") for line in text.splitlines() if line.startswith("#")]
    about = {key.strip(): value.strip() for key, _, value in comments}
    return Published(name, pd.read_csv(io.StringIO(text), comment="#"), about)


def markdown(published: Published) -> str:
    """A block of its own, to stand below a comparison table."""
    table = published.wide()
    lines = [f"*Published: {published.about['title']}*", ""]
    lines += [
        "| " + " | ".join(map(str, table.columns)) + " |",
        "|:--" + "|--:" * (len(table.columns) - 1) + "|",
    ]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.itertuples(index=False)]
    return "\n".join([*lines, "", *(f"*{line}*  " for line in _legend(published))]) + "\n"


def latex(published: Published) -> str:
    """A table of its own, to stand below a comparison table."""
    about = [f"Published: {published.about['title']}.", *_legend(published)]
    return frame_latex(published.wide(), f"published-{published.name}", " ".join(about))


def web(published: Published) -> str:
    """The same as HTML."""
    lines = [f"<p>Published: {html.escape(published.about['title'])}</p>", frame_web(published.wide())]
    lines += [f"<p>{html.escape(line)}</p>" for line in _legend(published)]
    return '<div class="published">' + "\n".join(lines) + "</div>\n"


def render(published: Published, kind: str) -> str:
    """As `markdown`, `latex` or `html`.

    Raises:
        PublishedError: another format; in CSV a published number would look like a measured one.
    """
    makers = {"markdown": markdown, "latex": latex, "html": web}
    if kind not in makers:
        known = ", ".join(makers)
        raise PublishedError(f"published numbers are never mixed into {kind}; use console, {known}")
    return makers[kind](published)


def console(published: Published) -> Group:
    """The same in grey for a terminal."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = published.wide()
    view = Table(*map(str, table.columns), box=None, style="bright_black", header_style="bright_black")
    for row in table.itertuples(index=False):
        view.add_row(*map(str, row))
    title: list[Any] = [Text(f"\nPublished: {published.about['title']}", style="italic bright_black"), view]
    return Group(*title, *(Text(line, style="bright_black") for line in _legend(published)))


def show(published: Published) -> None:
    """Print it to the terminal."""
    from rich.console import Console

    Console(highlight=False).print(console(published))


def _legend(published: Published) -> list[str]:
    keys = ("source", "note", "confidence")
    return [WARNING, *(f"{key}: {published.about[key]}" for key in keys if key in published.about)]


def _folder() -> Any:
    return files("analysis.tables") / "published_tables"
