"""Run every `codecbench ...` line of README and docs/, or say which test runs its kind and why not this one.

Names of the reader's own become names of what is here: a study becomes a published one, a run becomes that of
a tiny training, a folder of recordings becomes one of three synthetic clips. A line that trains, or needs a
network, a GPU, a cluster or released weights, matches a pattern in `REASONS`.
"""

import json
import re
import shlex
import subprocess
from collections.abc import Iterable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from experiments.cli import app
from tests.experiments.commands.documented_files import PUBLISHED, ROOT, TINY, Workshop
from tests.experiments.commands.test_documented_commands import ENDS, PAGES, Line, lines_of, root

# Of MLflow and its client for HTTP, among themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

Command = tuple[str, ...]

# By pattern of a whole line: the reason why it is not run here, and the test that runs its kind.
REASONS = {
    r"run .*--executor ray.*": "needs a cluster of Ray: tests/experiments/execution/test_ray.py",
    r"run .*--mirror tensorboard.*": "trains: tests/experiments/commands/sharing/test_mirrors.py",
    r"run .*--mirror wandb.*": "needs an account: tests/experiments/commands/sharing/test_mirrors.py",
    r"run .*--device cuda.*": "needs a GPU: tests/experiments/fake_device/test_harness.py",
    r"run .*--data datasets:.*": "needs a network: tests/experiments/data/test_hugging_face.py",
    r"run .*--data webdataset:.*": "needs the reader's shards: tests/experiments/data/test_tar_shards.py",
    r"run .*--(retry|only|force).*": "trains: tests/experiments/execution/test_looking_after.py",
    r"run paper.*": "needs GPUs: tests/experiments/execution/test_paper_study.py",
    r"run .+": "trains: tests/experiments/studies/test_shipped_studies.py",
    r"train .*--device cuda.*": "needs a GPU: tests/experiments/fake_device/test_training.py",
    r"train .+": "trains: tests/experiments/training/test_training_in_processes.py",
    r"search best-of-family": "trains: tests/experiments/search/test_families.py",
    r"search .+": "trains: tests/experiments/search/test_search.py",
    r"(push|pull) .*hf://.*": "needs a network: tests/experiments/commands/sharing/test_push_pull.py",
    r"weights get .+": "needs a network or released files: tests/codec/test_weights.py",
    r"evaluate .*q2d2:.*": "needs a released checkpoint: "
    "tests/experiments/evaluation/test_released_checkpoints.py",
    r"source-coding .*--latents.*": "needs the weights and audio of a study, which the archive leaves out: "
    "tests/experiments/execution/test_run.py",
    r"ui": "serves until Ctrl-C: tests/experiments/commands/test_study_files.py",
}

# Asked for by `make test-long`: others do the same with another study, or with fewer quantizers.
LONG = (
    *(r"(figures|report|paper) (?!--help).*", r"publish .*"),
    r"source-coding (?!lloyd-max).*",
    r"evaluate (recordings|originals|GT)(?!/ decoded/mycodec ).*",
    r"table (codebook-size|dimensions|rate-distortion|tilings-\S+) .*",
    r"import .*--tracking-uri.*",
    *(r"leaderboard .*rate-distortion.*", r"power (?!--help).*", r"export .*rate-distortion .*"),
    *(r"effects dimensions", r"plan paper --device-speed .*", r"plan gradients", r"check-metrics"),
)

# Commands that read studies of a store; every study that is not a published one becomes STUDY.
_READ_STUDIES = (
    *("table", "effects", "figures", "report", "paper", "power", "leaderboard", "runs", "export", "compare"),
)
_READ_STORE = (*_READ_STUDIES, "import", "clean")
STUDY = "starts"
_STUDIES = {
    "STUDY...": ("starts", "dimensions"),
    "FIRST": ("tilings-matched-rate",),
    "SECOND": ("tilings-same-levels",),
}
# Words of a line and what they become; with the name of a command before them, for that command alone.
_WORDS = {
    "COMMAND": "table",
    "plan STUDY": "quickstart",
    "evaluate STUDY": TINY["name"],
    "check-quantizer NAME": "fsq",
    "show-study NAME": "quickstart",
    "init FILE": "own.yaml",
    "import FILE": "studies.zip",
    "my_package:MyQuantizer": "log_quantizer:LogQuantizer",
    **dict.fromkeys(("REFERENCE", "REFERENCE_DIR", "RECORDINGS"), "recordings"),
    **dict.fromkeys(("DECODED", "DECODED...", "RECONSTRUCTED_DIR"), "decoded/mycodec"),
    "FOLDER...": "report-quickstart",
    **dict.fromkeys(("TARGET", "SOURCE", "folder:PATH"), "folder:shared"),
    "folder:/data/my-recordings": "folder:recordings",
}
# Options that keep a command short, where a line does not give them; `--steps` also where it does.
_SHORT = {
    "source-coding": {"--steps": "2", "--bits": "1", "--sources": "gaussian", "--workers": "1"},
    "geometry": {"--samples": "2000"},
    "evaluate": {"--metrics": "stoi,mel_distance", "--workers": "1"},
}
# Places of words that name what a command makes, and refuses to make again.
_MADE = {"init": 1, "push": 2, "pull": 2}
# Complete for the command line, but not for the command.
_INCOMPLETE = ("rates",)


class Documented(NamedTuple):
    """A pipe of commands, and the first place where it stands."""

    line: Line
    commands: tuple[Command, ...]

    @property
    def text(self) -> str:
        return " | ".join(shlex.join(("codecbench", *command)) for command in self.commands)


def all_lines() -> list[Line]:
    return [line for page in PAGES for line in lines_of(page, page.read_text(encoding="utf-8"))]


def commands_of(text: str) -> list[list[str]]:
    """The words of each command of a pipe after `codecbench`, up to the first other program."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(text, comments=True):
        if word == "|":
            commands.append([])
        elif word in ENDS:
            break
        else:
            commands[-1].append(word)
    return [words[1:] for words in takewhile(lambda words: words[:1] == ["codecbench"], commands)]


def reason_of(commands: Iterable[list[str]]) -> str | None:
    """The pattern of the first reason not to run a line."""
    texts = [shlex.join(words).replace("'", "") for words in commands]
    return next((pattern for pattern in REASONS if any(re.fullmatch(pattern, text) for text in texts)), None)


def runnable(words: list[str]) -> Command:
    """The words that are run: names that exist, fewer steps, and --help where an argument is missing."""
    if helped := _help(words):
        return helped
    name, given = _WORDS.get(words[0], words[0]), words[1:]
    result = [name]
    for before, word in zip(words, given, strict=False):
        if name in _READ_STUDIES and not word.startswith("-") and not before.startswith("--"):
            result += [word] if word in PUBLISHED else _STUDIES.get(word, (STUDY,))
        else:
            result.append(_WORDS.get(f"{name} {word}", _WORDS.get(word, word)))
    for option, value in _SHORT.get(name, {}).items():
        if option not in result:
            result += [option, value]
        elif option == "--steps":
            result[result.index(option) + 1] = value
    return tuple(result)


def _help(words: list[str]) -> Command | None:
    """The help of a command that is only mentioned, without the arguments that it needs."""
    command, names, rest = root(), [], list(words)
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        names.append(rest[0])
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") or "--help" in rest:
        return None
    try:
        command.make_context(" ".join(names), rest)
    except Exception as error:  # typer may bring a click of its own
        if type(error).__name__ == "MissingParameter":
            return (*names, "--help")
        raise
    return (*names, "--help") if not rest and names[0] in _INCOMPLETE else None


def documented() -> list[Documented]:
    """All lines to run, equal ones once."""
    pipes: dict[tuple[Command, ...], Documented] = {}
    for line in all_lines():
        commands = commands_of(line.text)
        if reason_of(commands) is None:
            run = tuple(runnable(words) if words else ("--help",) for words in commands)
            pipes.setdefault(run, Documented(line, run))
    return [*pipes.values()]


def is_long(one: Documented) -> bool:
    return any(re.fullmatch(pattern, one.text.removeprefix("codecbench ")) for pattern in LONG)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("documented"))


@pytest.fixture
def here(workshop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a line: a Git repository with a remote, and bash as the reader's shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))
    return tmp_path


def reads_store(command: Command) -> bool:
    known = command[0] in _READ_STORE and "--help" not in command
    return known or not {"RUN", TINY["name"]}.isdisjoint(command)


def set_out(command: Command, workshop: Workshop, here: Path) -> list[str]:
    """Put what a command takes as given into the working folder; its words, with the run that there is."""
    made = command[_MADE[command[0]] :][:1] if command[0] in _MADE else ()
    for word in command[1:]:
        for name in (word, word.partition(":")[0], word.rpartition(":")[2].strip("/")):
            if name in workshop.files and word not in made:
                workshop.put(name, here)
    if "RUN" in command or TINY["name"] in command:
        workshop.put("runs", here)
    return [workshop.run if word == "RUN" else word for word in command]


@pytest.mark.parametrize(
    "one",
    [pytest.param(one, id=one.text, marks=[pytest.mark.long] * is_long(one)) for one in documented()],
)
def test_a_documented_line_runs(
    one: Documented, workshop: Workshop, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "publish" in one.commands[0]:
        repository(here, monkeypatch)
    if "--install-completion" in one.commands[0]:
        monkeypatch.setenv("HOME", str(here))
    if any(reads_store(command) for command in one.commands):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", workshop.store)
    given: bytes | None = None
    for command in one.commands:
        words = set_out(command, workshop, here)
        done = CliRunner().invoke(app, words, input=given)
        page = one.line.page.relative_to(ROOT)
        assert done.exit_code == 0, f"{page}: {done.output}"
        assert not re.search(r"^error:|Traceback", done.output, re.MULTILINE), f"{page}: {done.output}"
        if "json" in words:
            assert json.loads(done.stdout)["schema"].startswith("codecbench.")
        for option in {"--output", "--figure"} & {*words}:
            assert Path(words[words.index(option) + 1]).exists(), f"{page}: {done.output}"
        given = done.stdout_bytes
    assert given or done.stderr


def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a folder a Git repository with a remote `origin`, and with no settings of this machine."""
    settings = folder.parent / f"{folder.name}.gitconfig"
    settings.write_text("[user]\nname = Somebody\nemail = somebody@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    remote = folder.parent / f"{folder.name}.git"
    for words in (
        ("init", "--quiet", "--bare", str(remote)),
        ("init", "--quiet"),
        ("remote", "add", "origin", str(remote)),
    ):
        subprocess.run(["git", *words], cwd=folder, check=True)


def test_each_reason_covers_a_line_and_names_a_test() -> None:
    used = {reason_of(commands_of(line.text)) for line in all_lines()}
    assert not REASONS.keys() - used
    for reason in REASONS.values():
        assert (ROOT / reason.rpartition(": ")[2]).is_file(), reason


def test_each_long_pattern_matches_a_line() -> None:
    texts = [one.text.removeprefix("codecbench ") for one in documented()]
    assert all(any(re.fullmatch(pattern, text) for text in texts) for pattern in LONG)


def test_most_lines_are_run() -> None:
    lines = [commands_of(line.text) for line in all_lines()]
    run = sum(reason_of(commands) is None for commands in lines)
    assert run > 0.6 * len(lines)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("codecbench table mine --output paper", "table starts --output paper"),
        ("codecbench table paper --published x", "table starts --published x"),
        ("codecbench leaderboard STUDY...", "leaderboard starts dimensions"),
        ("codecbench power STUDY", "power --help"),
        ("codecbench rates", "rates --help"),
        (
            "codecbench source-coding --steps 400",
            "source-coding --steps 2 --bits 1 --sources gaussian --workers 1",
        ),
        ("codecbench show RUN | head", "show RUN"),
    ],
)
def test_names_become_those_that_exist(text: str, words: str) -> None:
    (command,) = commands_of(text)
    assert runnable(command) == tuple(words.split())
