"""Read study files: find them by name or path, lay them over the study that they extend, override values."""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from experiments.studies import plain_yaml
from experiments.studies.axes import RATES
from experiments.studies.plain_yaml import MOST_BYTES, PlainYAMLError
from quantizers.suggestions import did_you_mean

# Sections that may be written as one word: the key that the word stands for.
ALONE = {"backbone": "name", "data": "corpus", "objective": "name"}
OWN = ("name", "question", "contrasts")  # of a study itself: never taken from the one it extends
MOST_EXTENDED = 20  # files that extend each other


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
    if path.suffix in (".yaml", ".yml") or _is_file(path):
        return _extended(path, ()), str(path)
    return _extended(_named(study, ""), ()), f"{study}.yaml"


def leave_out_rows(overrides: Sequence[str]) -> bool:
    """Whether `overrides` may leave out rows that the contrasts of a file name, and give no contrasts."""
    return bool(overrides) and not any(override.startswith("contrasts") for override in overrides)


def template(name: str) -> str:
    """The text of a study file to begin with, for a study called `name`."""
    text = (files("experiments.studies") / "template.yaml").read_text(encoding="utf-8")
    return text.replace("NAME", name)


def shipped_text(name: str) -> str:
    """The file of a shipped study as it is. Raises StudyError."""
    return _named(name, "").read_text(encoding="utf-8")


def merged_text(name: str) -> str:
    """A shipped study with what it takes from others, as YAML without comments. Raises StudyError."""
    values = _extended(_named(name, ""), ())
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=110)


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
    shown = text if len(text) <= 80 else f"{text[:60]}..."
    try:
        value = plain_yaml.read(value_text)
    except PlainYAMLError as error:
        raise StudyError(f"--set {shown}: {str(error).removeprefix('line 1: ')}") from None
    if key in RATES and value is not None:
        for rate in RATES:
            values.pop(rate, None)
    here = values
    *parents, last = key.split(".")
    if not all((*parents, last)) or len(parents) >= plain_yaml.MOST_DEPTH:
        raise StudyError(f"--set {shown}: write the key as names with dots between, such as train.steps")
    for parent in parents:
        below = here.get(parent)
        if isinstance(below, str) and parent in ALONE:
            below = {ALONE[parent]: below}
        elif below is None or (isinstance(below, list) and ALONE.get(parent) == last):
            below = {}  # one name takes the place of a list of them
        elif not isinstance(below, dict):
            raise StudyError(f"--set {shown}: {parent} has no keys below it")
        here[parent] = dict(below)
        here = here[parent]
    here[last] = value


def _extended(path: Path | Traversable, chain: Sequence[Path | Traversable]) -> dict[str, Any]:
    """The values of the file at `path`; `chain`: the files that extend it, the first one first."""
    named = " extends ".join(_name(each) for each in (*chain, path))
    if any(_same(path, each) for each in chain):
        raise StudyError(
            f"{named}: these files extend each other in a circle; remove `extends` from one of them"
        )
    if len(chain) >= MOST_EXTENDED:
        raise StudyError(f"{named}: more than {MOST_EXTENDED} files extend each other; put some together")
    try:
        text = _text(path)
    except (OSError, ValueError) as error:  # a path that cannot be is a ValueError
        where = f" ({named})" if chain else ""
        why = getattr(error, "strerror", None) or str(error)
        raise StudyError(f"cannot read the study file {_name(path)}: {why}{where}") from None
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
        shown = study if len(study) <= 80 else f"{study[:60]}..."
        raise StudyError(
            f"{before}no study {shown!r}; {hint}shipped: {', '.join(available())}; "
            "or give the path of a YAML file"
        )
    return _shipped() / f"{study}.yaml"


def _parse(text: str, source: str) -> dict[str, Any]:
    try:
        values = plain_yaml.read(text)
    except PlainYAMLError as error:
        raise StudyError(f"{source}: {error}") from None
    if not isinstance(values, dict):
        raise StudyError(f"{source}: a study is a mapping of keys to values")
    return values


def _text(path: Path | Traversable) -> str:
    """The text of a file, as far as it may be long. Raises OSError, ValueError."""
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise ValueError("it is not a file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES:,} bytes, so it is no study")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long for a file
        return False


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
