"""Commit a site to a branch of a git repository, without a checkout and without hooks; push only when told.

Objects are made with an index of their own, so that the repository's working tree and index stay as they are.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

_SECONDS = 600


class GitError(ValueError):
    """A repository cannot be used as asked; the message says what to do."""


def commit(repository: Path, branch: str, message: str, change: Callable[[Path], object]) -> str:
    """Let `change` change the files of `branch` in a temporary folder, and commit what comes out.

    Returns the commit's id, or that of the last commit where nothing changed.

    repository: a working tree or a bare repository. A branch that is missing begins without history. Raises
    GitError, and what `change` raises.
    """
    folder = Path(_git(repository, "rev-parse", "--absolute-git-dir"))
    reference = _reference(repository, branch)
    if f"branch {reference}" in _git(repository, "worktree", "list", "--porcelain").splitlines():
        raise GitError(
            f"the branch {branch} is checked out in {repository}. Remedy: check out another one there, or "
            "leave --branch out to write into the folder"
        )
    parent = _git(folder, "rev-parse", "--verify", "--quiet", reference, missing=True)
    with tempfile.TemporaryDirectory() as temporary:
        files, index = Path(temporary) / "files", Path(temporary) / "index"
        files.mkdir()
        place = {"GIT_DIR": str(folder), "GIT_WORK_TREE": str(files), "GIT_INDEX_FILE": str(index)}
        if parent:
            _git(files, "read-tree", reference, place=place)
            _git(files, "checkout-index", "--all", place=place)
        change(files)
        _git(files, "add", "--all", "--force", ".", place=place)
        tree = _git(files, "write-tree", place=place)
        if parent and tree == _git(folder, "rev-parse", f"{parent}^{{tree}}"):
            return parent
        parents = ["-p", parent] if parent else []
        made = _git(files, "commit-tree", tree, *parents, "-m", message, place=place)
        _git(folder, "update-ref", "-m", "codecbench publish", reference, made, parent or "0" * len(made))
    return made


def push(repository: Path, branch: str, remote: str) -> None:
    """Send a branch to a remote, never by force. Raises GitError."""
    if remote.startswith("-"):
        raise GitError(f"--push {remote}: give the name or the address of a remote")
    reference = _reference(repository, branch)
    try:
        _git(repository, "push", "--", remote, f"{reference}:{reference}")
    except GitError as error:
        newer = f"git -C {repository} fetch {remote} {branch}:{branch}"
        raise GitError(
            f"{error}. Remedy: check the remote and your access; if it has newer commits, `{newer}` and "
            f"publish again. The commit is kept in {repository}"
        ) from None


def check(repository: Path, branch: str) -> None:
    """See that `repository` is one, and that `branch` may be a name. Raises GitError."""
    _git(repository, "rev-parse", "--absolute-git-dir")
    _reference(repository, branch)


def _reference(repository: Path, branch: str) -> str:
    if branch.startswith("-"):
        raise GitError(f"--branch {branch}: this cannot be the name of a branch")
    try:
        _git(repository, "check-ref-format", "--branch", branch)
    except GitError:
        raise GitError(f"--branch {branch}: this cannot be the name of a branch") from None
    return f"refs/heads/{branch}"


def _git(folder: Path, *arguments: str, place: Mapping[str, str] | None = None, missing: bool = False) -> str:
    """The output of a git command. missing: a failure gives an empty text. Raises GitError."""
    others = {
        name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name in _KEPT
    }
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**others, "GIT_TERMINAL_PROMPT": "0", **(place or {})},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        where = "git is not installed" if folder.is_dir() else f"there is no folder {folder}"
        raise GitError(where) from None
    except NotADirectoryError:
        raise GitError(f"{folder} is no folder") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]} did not end within {_SECONDS} s") from None
    if done.returncode and not missing:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        said = next(
            (line for line in lines if line.startswith(("fatal:", "error:", "!"))), "".join(lines[:1])
        )
        raise GitError(f"git {arguments[0]} in {folder}: {said or f'exit code {done.returncode}'}")
    return done.stdout.strip() if not done.returncode else ""


# Of the variables of git, who commits and how a remote is reached.
_KEPT = (
    *(f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL", "DATE")),
    *("GIT_SSH", "GIT_SSH_COMMAND", "GIT_ASKPASS", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"),
)
