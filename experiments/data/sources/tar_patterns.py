"""Patterns of tar shards: braces, and for files * and ?, expanded to the shards that they name."""

import re
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse

from experiments.data import audio_files
from experiments.data.corpus import DataError
from experiments.data.sources.shard_states import states
from experiments.data.sources.tar_samples import SCHEMES, Shard

MOST_SHARDS = 1_000_000  # of a pattern; more is taken for a slip
_RANGE = re.compile(r"(-?\d{1,18})\.\.(-?\d{1,18})(?:\.\.-?\d+)?")


class Listing(NamedTuple):
    """Shards in order. left_out: (name, reason) of what a wildcard matched and is no file."""

    shards: list[Shard]
    left_out: list[tuple[str, str]]


def shards_of(pattern: str) -> Listing:
    """The shards that `pattern` names. Raises DataError, also where a web server does not answer."""
    addresses = _expanded(pattern)
    scheme = urlparse(pattern).scheme
    if ("://" in pattern and scheme not in SCHEMES) or scheme == "pipe":
        raise DataError(f"tar shards: {pattern!r}: known are files and {', '.join(SCHEMES)}")
    return _on_server(pattern, addresses) if scheme in SCHEMES else _on_disk(addresses)


def _expanded(pattern: str) -> list[str]:
    from braceexpand import braceexpand

    try:
        if _alternatives(pattern) > MOST_SHARDS:
            raise DataError(f"tar shards: {pattern[:100]!r} names more than {MOST_SHARDS} shards")
        return list(braceexpand(pattern))
    except RecursionError as error:
        raise DataError(f"tar shards: braces too deep in {pattern[:100]!r}") from error
    except DataError:
        raise
    except ValueError as error:
        raise DataError(f"tar shards: unbalanced braces in {pattern!r}") from error


def _alternatives(pattern: str) -> int:
    """Number of names that the braces of `pattern` stand for; nothing is expanded."""
    count, depth, start = 1, 0, 0
    for place, letter in enumerate(pattern):
        if letter == "{":
            start = place + 1 if depth == 0 else start
            depth += 1
        elif letter == "}" and depth:
            depth -= 1
            count *= _choices(pattern[start:place]) if depth == 0 else 1
    return count


def _choices(inside: str) -> int:
    """Number of choices between two braces: a range, or alternatives with commas between."""
    if numbers := _RANGE.fullmatch(inside):
        return abs(int(numbers[2]) - int(numbers[1])) + 1
    parts, depth = [""], 0
    for letter in inside:
        depth += (letter == "{") - (letter == "}")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return sum(_alternatives(part) for part in parts)


def _on_server(pattern: str, addresses: list[str]) -> Listing:
    if "*" in pattern:
        raise DataError(
            f"tar shards: {pattern!r}: shards on a server cannot be listed. "
            "Remedy: write {000000..000099} in place of *."
        )
    return Listing([Shard(*each) for each in zip(addresses, states(addresses), strict=True)], [])


def _on_disk(addresses: list[str]) -> Listing:
    paths: list[Path] = []
    left_out: list[tuple[str, str]] = []
    for address in addresses:
        path = audio_files.expanded(address)
        wild = any(letter in address for letter in "*?")
        root = Path(path.anchor) if path.anchor else Path()
        matched = sorted(root.glob(str(path.relative_to(path.anchor)))) if wild else [path]
        problems = {each: audio_files.problem(each) for each in matched}
        files = [each for each, why in problems.items() if not why]
        if not files:
            why = next(iter(problems.values()), "nothing matches")
            raise DataError(f"tar shards: no such shard: {address[:200]!r} ({why})")
        paths += files
        left_out += [(each.name, why) for each, why in problems.items() if why]
    return Listing([Shard(str(path), str(path.stat().st_size)) for path in dict.fromkeys(paths)], left_out)
