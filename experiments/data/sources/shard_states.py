"""States of shards on web servers: their sizes and ETags, asked for once and kept in the cache."""

import contextlib
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlparse

from experiments.common.atomic_files import write_text
from experiments.data.cache import cache_directory
from experiments.data.sources.tar_samples import unreachable

ASKED_AGAIN = 8  # shards whose state is asked for at each start, where all are known
PARALLEL = 16
SECONDS = 30  # that a server may take to answer


def states(addresses: Sequence[str]) -> list[str]:
    """Size and ETag of each address; empty for services other than web servers, of which nothing is asked.

    Once known, `ASKED_AGAIN` of them, spread over the list, stand for all: if one has changed, all are asked
    for again. Raises DataError where a server does not answer.
    """
    if urlparse(addresses[0]).scheme not in ("http", "https"):
        return [""] * len(addresses)
    path = _record(addresses)
    known = _read(path, len(addresses))
    last = len(addresses) - 1
    some = sorted({round(place * last / (ASKED_AGAIN - 1)) for place in range(ASKED_AGAIN)})
    if known and _ask([addresses[place] for place in some]) == [known[place] for place in some]:
        return known
    told = _ask(addresses)
    if len(addresses) > ASKED_AGAIN:
        with contextlib.suppress(OSError):  # they are asked for again, then
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(told))
    return told


def _record(addresses: Sequence[str]) -> Path:
    digest = hashlib.sha256("\n".join(addresses).encode("utf-8", "backslashreplace")).hexdigest()
    return cache_directory() / "listings" / f"shards-{digest[:32]}.json"


def _read(path: Path, count: int) -> list[str]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    whole = isinstance(values, list) and len(values) == count and all(isinstance(v, str) for v in values)
    return values if whole else []


def _ask(addresses: Sequence[str]) -> list[str]:
    with ThreadPoolExecutor(PARALLEL, thread_name_prefix="shards") as pool:
        return list(pool.map(_state, addresses))


def _state(address: str) -> str:
    request = urllib.request.Request(address, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return f"{answer.headers.get('Content-Length', '')} {answer.headers.get('ETag', '')}".strip()
    except (urllib.error.URLError, OSError) as error:
        raise unreachable(address, error) from error
