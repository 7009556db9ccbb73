"""Every `codecbench ...` of README and docs/ is a command that exists, with options that it takes."""

import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from experiments import cli, metrics
from experiments.studies import study as studies

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_FENCE = re.compile(r"^ *(```|~~~)(\w*)")
_SPAN = re.compile(r"`(codecbench(?: [^`]*)?)`", re.DOTALL)
_NO_COMMANDS = ("python", "yaml", "toml", "json")  # languages of blocks without command lines
ENDS = {"|", "||", "&&", ";", ">", "2>", "&"}  # what ends a command in a shell
_PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*(\.\.\.)?")


class Line(NamedTuple):
    """A command line in a page; `whole` where it stands in a block, and so must run as it is."""

    page: Path
    text: str
    whole: bool


class WrongLine(Exception):
    """A command line that codecbench would refuse."""


def lines_of(page: Path, text: str) -> Iterator[Line]:
    """The command lines of a page: those of its blocks, and the code in its sentences."""
    prose: list[str] = []
    language: str | None = None  # of the block that a line is in
    text = text.replace("\\\n", "")
    for line in text.splitlines():
        if fence := _FENCE.match(line):
            language = fence[2] if language is None else None
        elif language is None and not line.startswith("    "):
            prose.append(line)
            yield from (Line(page, f"codecbench {one}", False) for one in commands_in_table(line))
        elif language not in _NO_COMMANDS:
            yield from (Line(page, one, True) for one in commands_in(line.strip().removeprefix("$ ")))
    for span in _SPAN.findall("\n".join(prose)):
        yield Line(page, re.sub(r"\s+", " ", span.replace("\\|", "|")), False)


def commands_in_table(line: str) -> Iterator[str]:
    """Commands with arguments in the first column of a table, where they stand without `codecbench`."""
    if line.startswith("|"):
        for span in re.findall(r"`([^`]+)`", re.split(r"(?<!\\)\|", line)[1]):
            words = span.split()
            if len(words) > 1 and words[0] in root().commands:
                yield span


def commands_in(line: str) -> Iterator[str]:
    """What begins with `codecbench` in a line of a shell."""
    for part in re.split(
        r"&&|\|\||;|--wrap \"", re.sub(r"torchrun .*experiments\.cli ", "codecbench ", line)
    ):
        words = part.split()
        while words and re.fullmatch(r"\w+=\S*", words[0]):
            words.pop(0)
        if words and words[0] == "codecbench":
            yield part[part.index("codecbench") :].removesuffix('"')


def words_of(text: str) -> list[str]:
    """The words of one command after `codecbench`, without comments and pipes."""
    words = shlex.split(text, comments=True)[1:]
    end = next((place for place, word in enumerate(words) if word in ENDS), len(words))
    return words[:end]


@cache
def root() -> Any:
    return typer.main.get_command(cli.app)


def check(line: Line) -> None:
    """Raise WrongLine where codecbench would refuse the line."""
    words = words_of(line.text)
    command, name = root(), "codecbench"
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        if words[0] not in command.commands:
            if _PLACEHOLDER.fullmatch(words[0]):
                return
            raise WrongLine(f"{name} has no command {words[0]!r}")
        command, name = command.commands[words[0]], f"{name} {words.pop(0)}"
    if hasattr(command, "commands"):
        known = {option for one in command.get_params(command.context_class(command)) for option in one.opts}
        for word in words:
            if word not in {*known, "--help", "-h"}:
                raise WrongLine(f"{name} has no option {word}")
        return
    if {"--help", "-h"} & {*words}:
        return
    try:
        context = command.make_context(name, words)
    except Exception as error:  # typer may bring a click of its own
        if type(error).__name__ != "MissingParameter" or line.whole:
            problem = error.format_message() if hasattr(error, "format_message") else error
            raise WrongLine(f"{name}: {problem}") from None
    else:
        check_values(line, context.params)


def check_values(line: Line, given: dict[str, Any]) -> None:
    """Raise WrongLine for a study, a key or a metric that nobody could have."""
    one = given.get("study_file") or given.get("study_name") or given.get("study")
    base = "quickstart"
    for name in [one, *(given.get("studies") or ())]:
        if not isinstance(name, str) or _PLACEHOLDER.fullmatch(name):
            continue
        if name in studies.available():
            base = name
        elif not made_in(line.page, name):
            raise WrongLine(f"the study {name} is neither shipped nor made in the page")
    if changes := given.get("changes"):
        try:
            studies.load(base, [one for one in changes if one != "KEY=VALUE"])
        except studies.StudyError as error:
            raise WrongLine(str(error)) from None
    asked = [*str(given.get("metrics") or "").split(","), given.get("metric") or ""]
    for metric in asked:
        if metric and metric not in metrics.available() and not _PLACEHOLDER.fullmatch(metric):
            raise WrongLine(f"no metric {metric}")


def made_in(page: Path, name: str) -> bool:
    """Whether a page tells how a study comes to be: by a file or by a search over families."""
    text = page.read_text(encoding="utf-8")
    if name.endswith((".yaml", ".yml")):
        return True
    searched, _, suffix = name.rpartition("-")
    if suffix in ("trials", "tuned") and f"codecbench search {searched}" in text:
        search = studies.load(searched).search if searched in studies.available() else None
        return search is not None and bool(search.families)
    return f"{name}.yaml" in text or bool(re.search(rf"^name: {re.escape(name)}$", text, re.MULTILINE))


def problems_of(page: Path, text: str) -> list[str]:
    problems = []
    for line in lines_of(page, text):
        try:
            check(line)
        except WrongLine as wrong:
            problems.append(f"{line.text}: {wrong}")
    return problems


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_command_lines_of_a_page_are_real(page: Path) -> None:
    assert not problems_of(page, page.read_text(encoding="utf-8"))


def test_pages_have_command_lines() -> None:
    lines = [line for page in PAGES for line in lines_of(page, page.read_text(encoding="utf-8"))]
    assert sum(line.whole for line in lines) > 60
    assert sum(not line.whole for line in lines) > 60


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("    codecbench trian quickstart", "no command 'trian'"),
        ("```bash\ncodecbench run quickstart --sett a=1\n```", "--sett"),
        ("```bash\ncodecbench run\n```", "STUDY"),
        ("    codecbench plan quickstart tilings-matched-rate", "tilings-matched-rate"),
        ("    codecbench run quickstrat", "quickstrat is neither shipped nor made"),
        ("    codecbench run quickstart --set train.setps=3", "setps"),
        ("    codecbench leaderboard starts dimensoins", "dimensoins is neither shipped nor made"),
        ("    codecbench power quickstart --metric pesk --effect 1", "no metric pesk"),
        ("    X=1 codecbench plan quickstart && codecbench tabel quickstart | head", "no command 'tabel'"),
        ("see `codecbench plan --colums x`", "--colums"),
        ("see `codecbench list quantisers`", "no command 'quantisers'"),
        ("| `runs STUDY`, `show RUN --all` | prints a run |", "--all"),
    ],
)
def test_wrong_command_lines_are_told(text: str, problem: str) -> None:
    problems = problems_of(ROOT / "README.md", text)
    assert len(problems) == 1
    assert problem in problems[0]


def test_code_in_a_sentence_may_leave_arguments_out() -> None:
    assert not problems_of(ROOT / "README.md", "`codecbench run`, `codecbench list` and `codecbench --help`")
