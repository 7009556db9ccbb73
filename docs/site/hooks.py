"""Hooks of mkdocs: pages generated from the code, and links that work both on the site and in the repository.

`index.md` is README.md. Files outside docs/ that a page links to become pages below `repository/`.
The pages below `reference/` are written by docs/site/reference.py.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import reference  # noqa: E402  (beside this file, which is no package)

_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
_ITEM = re.compile(r"^(\s*)([-*]|\d+\.) ")


def on_files(files: Files, config: Any) -> Files:
    """Add README.md as the start page, the reference, and a page for each linked file of the repository."""
    readme = _rewritten((ROOT / "README.md").read_text(encoding="utf-8"), "README.md", "index.md")
    files.append(File.generated(config, "index.md", content=readme))
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    done: set[str] = set()
    waiting = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    while waiting:
        page = waiting.pop()
        source = page.relative_to(ROOT).as_posix()
        for target in _outside(page.read_text(encoding="utf-8"), source):
            if target not in done:
                done.add(target)
                files.append(File.generated(config, _page_of(target), content=_shown(target)))
                if target.endswith(".md"):
                    waiting.append(ROOT / target)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Point links to files outside docs/ at their pages."""
    uri = page.file.src_uri
    if uri == "index.md" or uri.startswith(("reference/", "repository/")):
        return _spaced(markdown)
    return _spaced(_rewritten(markdown, f"docs/{uri}", uri))


def on_post_build(config: Any) -> None:
    """Put the Markdown tables of the published report beside its page, as files and not as pages."""
    tables = Path("results", "report", "tables")
    Path(config["site_dir"], tables).mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "docs" / tables).glob("*.md"):
        shutil.copyfile(path, Path(config["site_dir"]) / tables / path.name)


def _outside(text: str, source: str) -> list[str]:
    """Files and folders of the repository outside docs/ that a text links to."""
    targets = (_target(match[1], source) for line in _prose(text) for match in _LINK.finditer(line))
    return [one for one in targets if not one.startswith("docs/") and one != "README.md" and _exists(one)]


def _prose(text: str) -> list[str]:
    """Lines outside of code blocks."""
    lines, inside = [], False
    for line in text.splitlines():
        if _FENCE.match(line):
            inside = not inside
        elif not inside:
            lines.append(line)
    return lines


def _target(link: str, source: str) -> str:
    """Path in the repository of a link in the file `source`."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), link))


def _exists(target: str) -> bool:
    return not target.startswith("..") and (ROOT / target).exists()


def _page_of(target: str) -> str:
    if target == "README.md":
        return "index.md"
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"repository/{target}" if target.endswith(".md") else f"repository/{target}.md"


def _rewritten(text: str, source: str, uri: str) -> str:
    """The text of a page with the links of the site; a link to nothing stays, for mkdocs to refuse."""

    def on_site(match: re.Match[str]) -> str:
        target = _target(match[1], source)
        if not _exists(target):
            return match[0]
        if target.startswith("docs/") and (ROOT / target).is_dir():
            target += "/README.md"
        return os.path.relpath(_page_of(target), posixpath.dirname(uri) or ".") + (match[2] or "")

    lines, inside = [], False
    for line in text.splitlines():
        if _FENCE.match(line):
            inside = not inside
        lines.append(line if inside else _LINK.sub(on_site, line))
    return "\n".join(lines) + "\n"


def _shown(target: str) -> str:
    """A page with what a file or folder of the repository holds."""
    path = ROOT / target
    if path.is_dir():
        names = "\n".join(f"- `{one.name}`" for one in sorted(path.iterdir()) if not one.name.startswith("_"))
        return f"# {target}\n\nA folder of the repository:\n\n{names}\n"
    text = path.read_text(encoding="utf-8")
    if target.endswith(".md"):
        return _rewritten(text, target, _page_of(target))
    return f"# {target}\n\n````{ {'.py': 'python', '.yaml': 'yaml'}.get(path.suffix, 'text') }\n{text}````\n"


def _spaced(text: str) -> str:
    """A blank line before each list, which GitHub does not need and Python-Markdown does."""
    lines: list[str] = []
    inside = False
    for line in text.splitlines():
        if _FENCE.match(line):
            inside = not inside
        before = lines[-1] if lines else ""
        item = _ITEM.match(line)
        begins = not inside and item and not item[1] and before.strip() and not _ITEM.match(before)
        if begins and before[0] not in " -*<":
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"
