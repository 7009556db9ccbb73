"""The house: imports point one way and stand at the top, no module is in a circle, folders stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("quantizers", "codec", "experiments", "analysis")

# Each room and the rooms that it may import, besides itself. Of a name that stands here, all below is meant.
EXPERIMENTS = (  # top to bottom: a room may import those below it, but for what NEIGHBOURS says
    "experiments.cli",
    "experiments.commands",
    "experiments.search",
    "experiments.execution",
    "experiments.planning",
    "experiments.tracking",
    "experiments.evaluation",
    "experiments.training",
    "experiments.studies",
    "experiments.metrics",
    "experiments.data",
    "experiments.common",
)
NEIGHBOURS = (  # side by side: the upper one may not import the lower one either
    ("experiments.execution", "experiments.planning"),
    ("experiments.tracking", "experiments.evaluation"),
    ("experiments.tracking", "experiments.training"),
)
STORE = ("experiments.tracking", "experiments.metrics", "experiments.common")  # what analysis may read
ALLOWED: dict[str, tuple[str, ...]] = {
    "quantizers": (),
    "codec": ("quantizers",),
    **{room: ("quantizers", "codec", *EXPERIMENTS[place + 1 :]) for place, room in enumerate(EXPERIMENTS)},
    "experiments.commands": ("quantizers", "codec", "analysis", *EXPERIMENTS[2:]),
    "analysis.results": ("quantizers", *STORE),
    "analysis.archive": ("analysis.results", *STORE),
    "analysis.statistics": ("analysis.results", "quantizers", *STORE),
    "analysis.tables": ("analysis.statistics", "analysis.results", "quantizers", *STORE),
    "analysis.figures": ("analysis.statistics", "analysis.results", "quantizers", *STORE),
    "analysis.reports": ("analysis", "quantizers", *STORE),
    "analysis": ("analysis.results", "analysis.statistics", "analysis.tables", "analysis.figures"),
    "experiments": (),
}
MOST_MODULES = 20  # in a folder
MOST_HIDDEN = 2.0  # imports of our own modules inside functions, in a thousand lines


@cache
def modules() -> dict[str, Path]:
    """Every module of the four packages, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


def imported(node: ast.AST) -> Iterator[str]:
    """Our own modules that one import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in PACKAGES)
    elif isinstance(node, ast.ImportFrom):
        assert not node.level, f"a relative import: {ast.unparse(node)}"
        if node.module and node.module.split(".")[0] in PACKAGES:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in modules() else node.module


@cache
def imports(module: str) -> frozenset[str]:
    """Our own modules that `module` imports anywhere, inside functions and for types, too."""
    return frozenset(name for node in ast.walk(tree(module)) for name in imported(node)) - {module}


def room(module: str) -> str:
    """The longest name in ALLOWED that `module` is or lies below."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next(name for name in names if name in ALLOWED)


def may(importer: str, imported_room: str) -> bool:
    if imported_room == importer or (importer, imported_room) in NEIGHBOURS:
        return imported_room == importer
    below = ALLOWED[importer]
    return any(imported_room == name or imported_room.startswith(f"{name}.") for name in below)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_lies_below_its_room(module: str) -> None:
    against = {name for name in imports(module) if not may(room(module), room(name))}
    assert not against, f"{room(module)} may not import {', '.join(sorted(against))}"


def test_no_module_is_in_a_circle() -> None:
    graph = {module: imports(module) for module in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")


def test_no_folder_holds_too_many_modules() -> None:
    folders = [
        path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("") if path.is_dir()
    ]
    counts = {str(path.relative_to(ROOT)): len(list(path.glob("*.py"))) for path in folders}
    assert not {name: count for name, count in counts.items() if count > MOST_MODULES}


def test_imports_stand_at_the_top() -> None:
    hidden = set()
    lines = 0
    for module, path in modules().items():
        lines += path.read_text(encoding="utf-8").count("\n")
        for function in ast.walk(tree(module)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                inside = (node for node in ast.walk(function) if any(imported(node)))
                hidden |= {(module, node.lineno) for node in inside}  # type: ignore[attr-defined]
    assert 1000 * len(hidden) / lines < MOST_HIDDEN, sorted(hidden)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom experiments.cli import app\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'matplotlib', 'scipy', 'ray'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
