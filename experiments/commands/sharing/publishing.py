"""The work of `codecbench publish`: pages into a folder, or onto a branch of a repository."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from analysis.reports import site as sites
from experiments.commands import outputs
from experiments.commands.display.terminal import output
from experiments.commands.sharing import git_branch
from experiments.common.plain_words import counted


def publish(
    folders: Sequence[Path], site: Path | None, branch: str | None, remote: str | None, title: str
) -> None:
    """Publish `folders`, as the options of the command say. Raises OutputError, GitError."""
    pages = sites.pages_of(folders)
    console = output()
    for page in pages:
        _describe(page)
    if site is None:
        console.say("nothing was written. Give --to PATH for a folder, such as docs of a repository,")
        console.say("or --to REPOSITORY --branch gh-pages for a branch; --push REMOTE sends that branch")
        return
    if branch is None:
        sites.check_site(site, pages)
        outputs.check_folder(site, "--to")
        console.say(f"wrote {sites.write_site(site, pages, title)}", to_copy=True)
        return
    git_branch.check(site, branch)
    message = f"Publish {', '.join(page.name for page in pages)}"
    made = git_branch.commit(site, branch, message, lambda root: sites.write_site(root, pages, title))
    console.say(f"the branch {branch} of {site} is at {made[:12]}", to_copy=True)
    if remote is None:
        command = shlex.join(["git", "-C", str(site), "push", "REMOTE", branch])
        console.say(f"nothing was sent; `{command}` does, or --push REMOTE", to_copy=True)
    else:
        git_branch.push(site, branch, remote)
        console.say(f"sent {branch} to {remote}", to_copy=True)


def _describe(page: sites.Page) -> None:
    """Say what belongs to a page, and what its readers will hear."""
    size, files = f"{page.size / 1e6:.1f} MB", counted(len(page.files), "file")
    output().say(f"{page.folder}: {page.kind} {page.title!r}, {files}, {size}, as {page.name}/")
    if page.audio:
        output().say(
            f"  with {counted(page.audio, 'audio file')}: see that the corpus's licence allows to publish "
            "recordings"
        )
