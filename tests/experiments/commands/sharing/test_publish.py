"""`publish` into folders and onto branches of repositories on this machine."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from analysis.reports.output_folder import MARKER

HOSTILE = "a <b>bold</b> & 'claim'"


def written(folder: Path, title: str = "A study", kind: str = "report") -> Path:
    """A folder as `report` or `leaderboard` leaves it."""
    parts = {"report": ["tables", "audio"], "leaderboard": []}[kind]
    for part in parts:
        (folder / part).mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    text = title.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    (folder / "index.html").write_text(f"<!doctype html><title>{text}</title>")
    (folder / MARKER).write_text(json.dumps({kind: parts}))
    (folder / "notes.txt").write_text("private")  # of the user, and no part of the report
    if parts:
        (folder / "tables" / "comparison.csv").write_text("quantizer\n")
        (folder / "audio" / "00.flac").write_bytes(b"fLaC")
    return folder


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def identity(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Git with a name to commit under, and no settings of this machine."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    (tmp_path / "gitconfig").write_text("[user]\nname = Somebody\nemail = somebody@example.org\n")


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return written(tmp_path / "report-one", HOSTILE)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--bare", "site.git")
    return tmp_path / "site.git"


def test_without_a_place_nothing_is_written(command: Any, report: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = command("publish", report)
    assert "nothing was written" in done.stdout
    assert "4 files" in done.stdout
    assert "1 audio file: see that the corpus's licence" in done.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_gets_reports_and_a_page_that_lists_them(command: Any, report: Path, tmp_path: Path) -> None:
    site = tmp_path / "docs"
    command("publish", report, "--to", site, "--title", "Of <us>")
    command("publish", written(tmp_path / "board", "All", "leaderboard"), "--to", site, "--title", "Of <us>")
    files = sorted(path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file())
    assert files == [
        *(MARKER, ".nojekyll", f"board/{MARKER}", "board/index.html", "index.html"),
        *(f"report-one/{MARKER}", "report-one/audio/00.flac", "report-one/index.html"),
        "report-one/tables/comparison.csv",
    ]
    text = (site / "index.html").read_text()
    assert (
        '<a href="report-one/index.html">a &lt;b&gt;bold&lt;/b&gt; &amp; &#x27;claim&#x27;</a> (report)'
        in text
    )
    assert '<a href="board/index.html">All</a> (leaderboard)' in text
    assert "<h1>Of &lt;us&gt;</h1>" in text
    (report / "tables" / "comparison.csv").unlink()
    command("publish", report, "--to", site)  # a new one takes the place of the old
    assert not (site / "report-one" / "tables").exists()
    assert (site / "board" / "index.html").exists()


def test_files_of_others_are_left_alone(command: Any, report: Path, tmp_path: Path) -> None:
    site = tmp_path / "docs"
    site.mkdir()
    (site / "index.html").write_text("mine")
    assert "name another folder" in command("publish", report, "--to", site, code=2).stderr
    (site / "index.html").unlink()
    (site / "report-one").mkdir()
    (site / "report-one" / "thesis.tex").write_text("mine")
    assert "holds other files" in command("publish", report, "--to", site, code=2).stderr
    assert sorted(path.name for path in site.rglob("*")) == ["report-one", "thesis.tex"]


def test_a_branch_of_a_bare_repository(command: Any, report: Path, bare: Path, tmp_path: Path) -> None:
    done = command("publish", report, "--to", bare, "--branch", "gh-pages")
    assert "nothing was sent" in done.stdout
    files = git(bare, "ls-tree", "-r", "--name-only", "gh-pages").splitlines()
    assert ".nojekyll" in files
    assert "report-one/index.html" in files
    assert not any("notes.txt" in file for file in files)
    first = git(bare, "rev-parse", "gh-pages")
    command("publish", report, "--to", bare, "--branch", "gh-pages")  # nothing new, no commit
    assert git(bare, "rev-parse", "gh-pages") == first
    command("publish", written(tmp_path / "two"), "--to", bare, "--branch", "gh-pages")
    assert git(bare, "rev-parse", "gh-pages^") == first
    files = git(bare, "ls-tree", "-r", "--name-only", "gh-pages").splitlines()
    assert {"report-one/index.html", "two/index.html"} <= {*files}  # what was there stays
    assert git(bare, "log", "-1", "--format=%an %s", "gh-pages") == "Somebody Publish two"


def test_a_working_tree_stays_as_it_is_and_only_push_sends(
    command: Any, report: Path, bare: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "project"
    git(tmp_path, "init", "--quiet", "--initial-branch", "main", "project")
    (tree / "code.py").write_text("1\n")
    git(tree, "add", "code.py")
    git(tree, "commit", "--quiet", "-m", "code")
    (tree / "code.py").write_text("2\n")  # not committed
    (tree / "staged.py").write_text("3\n")
    git(tree, "add", "staged.py")
    git(tree, "remote", "add", "origin", str(bare))
    status = git(tree, "status", "--porcelain")
    hook = tree / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    command("publish", report, "--to", tree, "--branch", "gh-pages")
    assert git(tree, "status", "--porcelain") == status
    assert git(tree, "rev-parse", "--abbrev-ref", "HEAD") == "main"
    assert "code.py" not in git(tree, "ls-tree", "-r", "--name-only", "gh-pages")
    assert git(bare, "branch", "--list") == ""
    done = command("publish", report, "--to", tree, "--branch", "gh-pages", "--push", "origin")
    assert "sent gh-pages to origin" in done.stdout
    assert git(bare, "rev-parse", "gh-pages") == git(tree, "rev-parse", "gh-pages")

    git(tree, "update-ref", "refs/heads/gh-pages", "main")  # another history: never overwritten
    there = git(bare, "rev-parse", "gh-pages")
    done = command("publish", report, "--to", tree, "--branch", "gh-pages", "--push", "origin", code=2)
    assert "newer commits" in done.stderr
    assert git(bare, "rev-parse", "gh-pages") == there
    assert "is checked out" in command("publish", report, "--to", tree, "--branch", "main", code=2).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--branch", "gh-pages"), "name the repository by --to"),
        (("--to", "SITE", "--push", "origin"), "name the branch by --branch"),
        (("--to", "SITE", "--branch", "--upload-pack=x"), "cannot be the name of a branch"),
        (("--to", "SITE", "--branch", "a..b"), "cannot be the name of a branch"),
        (("--to", "SITE", "--branch", "gh-pages", "--push", "--exec=x"), "the address of a remote"),
        (("--to", "SITE", "--branch", "gh-pages", "--push", "nowhere"), "check the remote"),
        (("--to", "NOTHING", "--branch", "gh-pages"), "there is no folder"),
        (("--to", "PLAIN", "--branch", "gh-pages"), "not a git repository"),
    ],
)
def test_what_cannot_be_is_told(
    command: Any, report: Path, bare: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    (tmp_path / "plain").mkdir()
    places = {"SITE": bare, "NOTHING": tmp_path / "nothing", "PLAIN": tmp_path / "plain"}
    done = command("publish", report, *(places.get(option, option) for option in options), code=2)
    assert message in " ".join(done.stderr.split())


def test_folders_that_are_no_reports_are_refused(command: Any, report: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert "is no folder that" in command("publish", tmp_path / "plain", code=2).stderr
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (report / "tables" / "link.csv").symlink_to(secret)
    assert "is a link" in command("publish", report, "--to", tmp_path / "site", code=2).stderr
    (report / MARKER).write_text(json.dumps({"report": ["../secret"]}))
    assert "is no folder in it" in command("publish", report, "--to", tmp_path / "site", code=2).stderr
    assert not (tmp_path / "site").exists()


def test_without_a_name_to_commit_under_git_says_so(
    command: Any, report: Path, bare: Path, tmp_path: Path
) -> None:
    (tmp_path / "gitconfig").write_text("[user]\nuseConfigOnly = true\n")
    done = command("publish", report, "--to", bare, "--branch", "gh-pages", code=2)
    assert "git commit-tree" in done.stderr
    assert git(bare, "branch", "--list") == ""
