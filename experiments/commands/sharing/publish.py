"""`codecbench publish`: reports and leaderboards as a static site, in a folder or on a branch."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from experiments.commands import outputs
from experiments.commands.display.terminal import output

if TYPE_CHECKING:
    from analysis.reports.site import Page


def publish(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER", help="folders of `codecbench report` or `codecbench leaderboard`"),
    ],
    site: Annotated[
        Path | None,
        typer.Option("--to", metavar="PATH", help="folder of the site; with --branch a git repository"),
    ] = None,
    branch: Annotated[
        str | None, typer.Option(metavar="NAME", help="commit to this branch, such as gh-pages")
    ] = None,
    remote: Annotated[
        str | None,
        typer.Option("--push", metavar="REMOTE", help="send the branch to this remote, such as origin"),
    ] = None,
    title: Annotated[
        str, typer.Option(metavar="TEXT", help="heading of the page that lists all")
    ] = "Reports",
) -> None:
    """Put reports into a site for GitHub Pages. Without --to only say what would be done."""
    if site is None and (branch or remote):
        raise typer.BadParameter("name the repository by --to", param_hint="--branch" if branch else "--push")
    if remote and not branch:
        raise typer.BadParameter("name the branch by --branch", param_hint="--push")

    from analysis.reports import site as sites
    from experiments.commands.sharing import git_branch

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


def _describe(page: Page) -> None:
    """Say what belongs to a page, and what its readers will hear."""
    size = f"{page.size / 1e6:.1f} MB"
    output().say(
        f"{page.folder}: {page.kind} {page.title!r}, {len(page.files)} files, {size}, as {page.name}/"
    )
    if page.audio:
        output().say(
            f"  with {page.audio} audio files: see that the licence of the corpus allows to publish them"
        )
