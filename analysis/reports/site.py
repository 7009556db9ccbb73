"""Sites of reports and leaderboards: one static folder with a page that lists them, as web hosts serve it."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from analysis.reports.output_folder import MARKER, OutputError, kinds, prepare_output
from analysis.reports.page import beside, policy

INDEX = "index.html"
NO_JEKYLL = ".nojekyll"  # GitHub then serves files as they are
PAGES = ("report", "leaderboard")  # kinds of folders that a site may hold
KIND = "site"
LARGEST = 100_000_000  # bytes of a file that GitHub takes


@dataclass(frozen=True)
class Page:
    """A folder of a report or a leaderboard. files: relative paths of all that belongs to it."""

    folder: Path
    kind: str
    title: str
    files: tuple[Path, ...]

    @property
    def name(self) -> str:
        """The folder's name, as part of an address."""
        return re.sub(r"[^\w.-]+", "-", self.folder.resolve().name).strip(".-") or "report"

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum((self.folder / file).stat().st_size for file in self.files)

    @property
    def audio(self) -> int:
        """Number of audio files."""
        return sum(file.parts[0] == "audio" for file in self.files)


def page_of(folder: Path) -> Page:
    """What `codecbench report` or `codecbench leaderboard` wrote to `folder`. Raises OutputError."""
    known = kinds(folder)
    kind = next((kind for kind in PAGES if kind in known), None)
    if kind is None or not (folder / INDEX).is_file():
        raise OutputError(
            f"{folder} is no folder that `codecbench report` or `codecbench leaderboard` has written"
        )
    inside = [Path(INDEX), Path(MARKER)]
    for name in known[kind]:
        part = Path(name)
        if part.name != name:
            raise OutputError(
                f"{folder / MARKER} names {name!r}, which is no folder in it; write the report anew"
            )
        inside += sorted(path.relative_to(folder) for path in (folder / part).rglob("*") if not path.is_dir())
    for file in inside:
        whole = folder / file
        if whole.is_symlink() or not whole.is_file() or not whole.resolve().is_relative_to(folder.resolve()):
            raise OutputError(
                f"{whole} is a link or no plain file; write the report anew before it is published"
            )
        if whole.stat().st_size > LARGEST:
            raise OutputError(f"{whole} has more than {LARGEST / 1e6:.0f} MB, which GitHub refuses")
    return Page(folder, kind, _title(folder / INDEX), tuple(inside))


def pages_of(folders: Sequence[Path]) -> list[Page]:
    """The pages in `folders`, whose names must differ. Raises OutputError."""
    pages = [page_of(folder) for folder in folders]
    names = [page.name for page in pages]
    for name in names:
        if names.count(name) > 1:
            raise OutputError(f"two folders are called {name!r}; give them different names")
    return pages


def check_site(site: Path, pages: Sequence[Page]) -> None:
    """See that nothing of others in the folder `site` would be replaced. Raises OutputError."""
    if (site / INDEX).exists() and KIND not in kinds(site):
        raise OutputError(
            f"{site / INDEX} was not written by `codecbench publish`. Remedy: name another folder, such as "
            f"{site / 'reports'}"
        )
    for page in pages:
        target = site / page.name
        if target.exists() and not set(kinds(target)) & set(PAGES):
            raise OutputError(
                f"{target} holds other files. Remedy: rename {page.folder}, or name another folder"
            )


def write_site(site: Path, pages: Sequence[Page], title: str) -> Path:
    """Put `pages` into the folder `site`, and write the page that lists all that are there; that page.

    Earlier pages of the same names are replaced. Raises OutputError where others' files would be.
    """
    check_site(site, pages)
    site.mkdir(parents=True, exist_ok=True)
    prepare_output(site, KIND, ())
    (site / NO_JEKYLL).touch()
    for page in pages:
        target = site / page.name
        if target.is_symlink():
            raise OutputError(f"{target} is a link; remove it first")
        shutil.rmtree(target, ignore_errors=True)
        for file in page.files:
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(page.folder / file, target / file)
    index = site / INDEX
    index.write_text(_index(site, title), encoding="utf-8")
    return index


def _index(site: Path, title: str) -> str:
    folders = sorted(path for path in site.iterdir() if path.is_dir() and set(kinds(path)) & set(PAGES))
    lines = []
    for folder in folders:
        kind = next(kind for kind in PAGES if kind in kinds(folder))
        link = html.escape(f"{folder.name}/{INDEX}", quote=True)
        lines.append(f'<li><a href="{link}">{html.escape(_title(folder / INDEX))}</a> ({kind})</li>')
    sheet = beside("report.css")
    return Template(beside("site.html")).substitute(
        policy=policy("", sheet), style=sheet, title=html.escape(title), pages="\n".join(lines)
    )


def _title(page: Path) -> str:
    """The title of a page, as plain text."""
    found = re.search(r"<title>(.*?)</title>", page.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    return html.unescape(found[1]).strip() if found else page.parent.name
