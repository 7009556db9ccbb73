"""Study files as written: found by name or path, laid over the study that they extend, overridden."""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from experiments.studies.axes import RATES
from quantizers.suggestions import did_you_mean

# Sections that may be written as one word: the key that the word stands for.
ALONE = {"backbone": "name", "data": "corpus", "objective": "name"}
OWN = ("name", "question")  # of a study itself: never taken from the one it extends


class StudyError(ValueError):
    """A study file, or a value given for it, is wrong; the message says where and what to do."""


def available() -> tuple[str, ...]:
    """Names of the studies that come with codecbench."""
    names = (path.name for path in _shipped().iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def read(study: str) -> tuple[dict[str, Any], str]:
    """The values of a shipped study or of a YAML file, with those of what it extends, and its name for
    messages. Raises StudyError."""
    path = Path(study)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return _extended(path, ()), str(path)
    return _extended(_named(study, ""), ()), f"{study}.yaml"


def merge(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`over` laid over `under`: mappings key by key, everything else replaced."""
    merged = dict(under)
    if any(over.get(rate) is not None for rate in RATES):
        merged = {key: value for key, value in merged.items() if key not in RATES}
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, str) and isinstance(value, dict) and key in ALONE:
            below = {ALONE[key]: below}
        merged[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def override(values: dict[str, Any], text: str) -> None:
    """Apply `key.path=value` to `values`. Raises StudyError."""
    key, equals, value_text = text.partition("=")
    if not equals or not key:
        raise StudyError(f"--set {text}: write it as key=value, such as train.steps=200")
    try:
        value = yaml.safe_load(value_text)
    except yaml.YAMLError as error:
        raise StudyError(f"--set {text}: {error}") from None
    if key in RATES and value is not None:
        for rate in RATES:
            values.pop(rate, None)
    here = values
    *parents, last = key.split(".")
    for parent in parents:
        below = here.get(parent)
        if isinstance(below, str) and parent in ALONE:
            below = {ALONE[parent]: below}
        elif below is None:
            below = {}
        elif not isinstance(below, dict):
            raise StudyError(f"--set {text}: {parent} has no keys below it")
        here[parent] = dict(below)
        here = here[parent]
    here[last] = value


def _extended(path: Path | Traversable, chain: Sequence[Path | Traversable]) -> dict[str, Any]:
    """The values of the file at `path`; `chain`: the files that extend it, the first one first."""
    named = " extends ".join(_name(each) for each in (*chain, path))
    if any(_same(path, each) for each in chain):
        raise StudyError(f"{named}: a circle; let one of them stand alone")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        where = f" ({named})" if chain else ""
        raise StudyError(f"cannot read the study file {path}: {error}{where}") from None
    values = _parse(text, named)
    base = values.pop("extends", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise StudyError(f"{named}: extends: name one shipped study or one file, not {base!r}")
    if base.endswith((".yaml", ".yml")):
        below = path.parent / base if isinstance(path, Path) else _shipped() / base
    else:
        below = _named(base, f"{named}: extends: ")
    inherited = _extended(below, (*chain, path))
    return merge({key: value for key, value in inherited.items() if key not in OWN}, values)


def _named(study: str, before: str) -> Traversable:
    if study not in available():
        hint = did_you_mean(study, available())
        raise StudyError(
            f"{before}no study {study!r}; {hint}shipped: {', '.join(available())}; "
            "or give the path of a YAML file"
        )
    return _shipped() / f"{study}.yaml"


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise StudyError(f"{source}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise StudyError(f"{source}: a study is a mapping of keys to values")
    return values


def _same(one: Path | Traversable, other: Path | Traversable) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return str(one) == str(other)


def _name(path: Path | Traversable) -> str:
    return str(path) if isinstance(path, Path) and not _is_shipped(path) else path.name


def _is_shipped(path: Path) -> bool:
    return str(path.parent) == str(_shipped())


def _shipped() -> Traversable:
    return files("experiments.studies") / "shipped"
