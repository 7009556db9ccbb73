"""The Dockerfile: what can be told without Docker."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.deployment.shell import problems

if sys.platform == "win32":
    pytest.skip("the image is Linux", allow_module_level=True)


ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


class Instruction(NamedTuple):
    name: str
    value: str


def instructions() -> list[Instruction]:
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n", "", "\n".join(lines))
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def values(name: str) -> list[str]:
    return [each.value for each in instructions() if each.name == name]


def copied() -> list[str]:
    return [source for value in values("COPY") for source in value.split()[:-1]]


def ignored(path: str) -> bool:
    """Whether .dockerignore leaves a file out: its rules begin at the root, but for those with `**/`."""
    parts = path.split("/")
    for rule in (ROOT / ".dockerignore").read_text().split():
        assert not rule.startswith("!")
        anywhere = rule.startswith("**/")
        if any(fnmatch(part, rule.removeprefix("**/")) for part in (parts if anywhere else parts[:1])):
            return True
        if path == rule or path.startswith(f"{rule}/"):
            return True
    return False


def test_instructions_are_in_order() -> None:
    names = [each.name for each in instructions()]
    known = {"ARG", "FROM", "RUN", "COPY", "WORKDIR", "ENV", "ENTRYPOINT", "CMD"}
    assert set(names) <= known
    assert names[:2] == ["ARG", "FROM"]
    assert values("FROM") == ["${BASE}"]
    declared: set[str] = set()
    for name, value in instructions():
        if name == "FROM":
            assert {"BASE"} <= declared
            declared = set()  # arguments end with a stage
        if name == "ARG":
            declared.add(value.partition("=")[0])
        if name == "RUN":
            assert set(re.findall(r"\$\{(\w+)", value)) <= declared


@pytest.mark.parametrize("run", values("RUN"), ids=lambda run: run.split()[0])
def test_shellcheck_has_nothing_to_say(run: str) -> None:
    names = " ".join(value.partition("=")[0] for value in values("ARG"))
    assert problems(f"export {names}\n{run}\n", "sh") == []


@pytest.mark.parametrize("source", copied())
def test_each_source_is_in_the_context(source: str) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--", source], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = listed.stdout.split()
    assert files
    assert not [file for file in files if ignored(file)]


def test_extras_are_those_of_the_package() -> None:
    [default] = [value.partition("=")[2] for value in values("ARG") if value.startswith("EXTRAS=")]
    page = (ROOT / "docs" / "scaling.md").read_text()
    named = {default, *re.findall(r"EXTRAS=([\w,]+)", page)}
    assert len(named) > 1
    assert {extra for group in named for extra in group.split(",")} <= EXTRAS.keys()


def test_torch_is_the_one_that_the_package_asks_for() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [run] = [run for run in values("RUN") if "TORCH_INDEX" in run]
    assert set(re.findall(r"'(torch\S*)'", run)) <= set(dependencies)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--build-arg BASE=python:3.11-slim --build-arg TORCH_INDEX= --tag codecbench ."),
        (["TORCH=cpu"], "--build-arg TORCH_INDEX=https://download.pytorch.org/whl/cpu --tag codecbench ."),
        (
            ["BASE=a:1", "EXTRAS=ray"],
            "BASE=a:1 --build-arg TORCH_INDEX= --build-arg EXTRAS=ray --tag",
        ),
    ],
)
def test_make_image_passes_arguments_that_there_are(arguments: list[str], expected: str) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    told = subprocess.run(
        ["make", "--dry-run", "image", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    command = re.sub(r"\s+", " ", told.stdout.replace("\\\n", " "))
    assert expected in command
    declared = {value.partition("=")[0] for value in values("ARG")}
    assert set(re.findall(r"--build-arg (\w+)=", command)) <= declared


@pytest.mark.long
def test_the_copied_files_are_enough_for_a_wheel(tmp_path: Path) -> None:
    """The last step of the image, without the network: build from nothing but what was copied."""
    context = tmp_path / "context"
    for source in copied():
        path = ROOT / source
        context.mkdir(exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, context / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, context / source)
    # --no-build-isolation: a network may be lacking; setuptools is a dependency of ours
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", "wheels", "."]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONPATH": ""}
    done = subprocess.run(build, cwd=context, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = (context / "wheels").glob("codecbench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = next(archive.read(n).decode() for n in names if n.endswith("entry_points.txt"))
    [entry] = values("ENTRYPOINT")
    assert f"{entry.strip('[]').strip(chr(34))} = experiments.cli:main" in entry_points
    tracked = subprocess.run(
        ["git", "ls-files", "quantizers", "codec", "experiments", "analysis"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not set(tracked) - names
