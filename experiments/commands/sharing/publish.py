"""`codecbench publish`: reports and leaderboards as a static site, in a folder or on a branch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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

    from experiments.commands.sharing import publishing

    publishing.publish(folders, site, branch, remote, title)
