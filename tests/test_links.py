"""Links of README and docs/ lead to files and headings of the repository, as GitHub shows them.

mkdocs checks the links of the site, where generated pages exist that the repository does not have.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]*))?\)")


def _prose(page: Path) -> list[str]:
    """Lines outside of code blocks."""
    lines, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def _anchors(page: Path) -> set[str]:
    """Names that GitHub gives to the headings of a page."""
    heads = [line.lstrip("#").strip().lower() for line in _prose(page) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", head).replace(" ", "-") for head in heads}


def _wrong(page: Path) -> list[str]:
    wrong = []
    for match in (match for line in _prose(page) for match in _LINK.finditer(line)):
        name, anchor = match[1], match[2]
        if re.match(r"[a-z]+:", name):
            continue
        target = page.parent / name if name else page
        heading_missing = anchor and target.suffix == ".md" and anchor not in _anchors(target)
        outside = page.is_relative_to(ROOT) and not target.resolve().is_relative_to(ROOT)
        if not target.exists() or heading_missing or outside:
            wrong.append(match[0])
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere_on_github(page: Path) -> None:
    assert _wrong(page) == []


def test_named_files_of_the_repository_exist() -> None:
    """Files in code, such as `analysis/results/load.py`, in pages that describe the code."""
    pages = (
        ROOT / "CONTRIBUTING.md",
        ROOT / "docs" / "architecture.md",
        ROOT / "docs" / "adding_a_quantizer.md",
    )
    named = re.compile(
        r"\b((?:quantizers|codec|experiments|analysis|tests|docs|benchmarks)/[\w./-]+\.(?:py|md|yaml))"
    )
    gone = {
        name
        for page in pages
        for name in named.findall(page.read_text(encoding="utf-8"))
        if "NAME" not in name and not (ROOT / name).exists()
    }
    assert gone == set()


def test_imports_of_the_notebook_exist() -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    source = "".join(line for cell in cells if cell["cell_type"] == "code" for line in cell["source"])
    modules = re.findall(
        r"^from ((?:analysis|quantizers|codec|experiments)[\w.]*) import", source, re.MULTILINE
    )
    assert modules
    for module in modules:
        path = ROOT / module.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file(), module


def test_a_broken_link_is_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# One head\n[a](#one-head) [b](#other) [c](gone.md) [d](https://x.org/y.md#z)\n")
    assert _wrong(page) == ["](#other)", "](gone.md)"]
