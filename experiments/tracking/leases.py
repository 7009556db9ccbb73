"""Leases: which process works on what, so that two runners of a store do nothing twice.

A process that wants to work on something writes a *claim*, a tag of its study's experiment with a name of its
own, and then reads the claims of all experiments. It has the lease if no other claim on the same thing is
alive; otherwise it takes its claim back. Of two processes that claim at once at least one reads the other's
claim, since each writes before it reads (the flag principle: Herlihy and Shavit 2012, section 2.8), so that
never both have the lease. If both withdraw, they try again after a random pause.

A holder renews its claim four times in `LEASE_SECONDS`. Who waits takes a claim for dead when it has not
changed for `LEASE_SECONDS` by the waiter's own clock (clocks of machines are never compared), looked at
without a long pause, in which the store may have been away for both; or at once when it was made on the same
machine by a process that is gone. Dead claims are removed by whoever finds them. A
holder that was cut off, and finds its claim removed or another one beside it, has lost the lease and stops.

Limits. The store must show a write to every later read: one database does, behind a server or not; read
replicas and a file store on NFS may not. A holder that is cut off from the store for longer than
`LEASE_SECONDS` learns only afterwards that another has taken over, and both work until then: the metrics of
the two are the same by construction, and final values are logged once, but their work is done twice. All
runners of a store should use the same `LEASE_SECONDS`.
"""

import contextlib
import json
import math
import os
import platform
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.tracking.schema import Tag
from experiments.tracking.store import TrackingError

if TYPE_CHECKING:
    from experiments.tracking.store import Store

LEASE_SECONDS = 60.0
SECONDS_VARIABLE = "CODECBENCH_LEASE_SECONDS"  # overrides it
BEATS = 4  # renewals in that time
ATTEMPTS = 4  # claims that may collide before a process gives way

_PREFIX = Tag.LEASE


def seconds() -> float:
    """How long a claim lives unless it is renewed: $CODECBENCH_LEASE_SECONDS, else `LEASE_SECONDS`.

    Raises TrackingError where the variable is no such number.
    """
    given = os.environ.get(SECONDS_VARIABLE) or LEASE_SECONDS
    try:
        wanted = float(given)
    except ValueError:
        wanted = math.nan
    if not 1 <= wanted < math.inf:
        raise TrackingError(f"{SECONDS_VARIABLE} is {given!r}; give it 1 second or more, such as 60")
    return wanted


@dataclass(frozen=True)
class Claim:
    """One claim as read from the store. `value` changes whenever its holder renews it."""

    experiment_id: str
    tag: str
    key: str
    value: str
    owner: str
    orphaned: bool  # made on this machine, by a process that is gone


class Leases:
    """The leases of a store, as one process sees them."""

    def __init__(self, store: "Store", lease_seconds: float) -> None:
        self.store, self.seconds = store, lease_seconds
        self._seen: dict[str, tuple[str, float]] = {}  # tag: value, and since when it has been that
        self._looked = 0.0

    def holders(self) -> dict[str, str]:
        """What is worked on now: key to owner, in words. Removes the claims of the dead."""
        return {claim.key: claim.owner for claim in self._living()}

    def acquire(self, key: str) -> "Lease | None":
        """The lease on `key`, or None when another process has it. Raises TrackingError."""
        for _ in range(ATTEMPTS):
            if key in self.holders():
                return None
            lease = Lease(self, key)
            lease.write()
            if not lease.rivals():
                lease.renew_in_background()
                return lease
            lease.withdraw()
            time.sleep(random.uniform(0.05, 0.5))
        return None

    @contextmanager
    def waiting(self, key: str) -> "Iterator[Lease]":
        """Hold the lease on `key`, for something short: waits until it is free."""
        while (lease := self.acquire(key)) is None:
            time.sleep(0.2)
        with lease:
            yield lease

    def _living(self) -> list[Claim]:
        claims = list(self._claims())
        now = time.monotonic()
        if now - self._looked > self.seconds / 2:
            self._seen = {}
        self._looked = now
        living, seen = [], {}
        for claim in claims:
            value, since = self._seen.get(claim.tag, (None, now))
            since = since if value == claim.value else now
            if claim.orphaned or now - since > self.seconds:
                self.store.untag_experiment(claim.experiment_id, claim.tag)
                continue
            seen[claim.tag] = (claim.value, since)
            living.append(claim)
        self._seen = seen
        return living

    def _claims(self) -> Iterator[Claim]:
        for experiment in self.store.experiments():
            for tag, value in experiment.tags.items():
                if tag.startswith(_PREFIX):
                    key = tag.removeprefix(_PREFIX).rpartition(".")[0]
                    yield _read(str(experiment.experiment_id), tag, key, value)


class Lease:
    """A claim of this process; the lease, once it was found to be the only one. Leaving it as a context
    gives it back."""

    def __init__(self, leases: Leases, key: str) -> None:
        self.key, self.tag = key, f"{_PREFIX}{key}.{secrets.token_hex(6)}"
        self.lost = False
        self._leases, self._beats = leases, 0
        self._renewed = 0.0
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(TrackingError):  # it expires
            self.withdraw()

    def write(self) -> None:
        """Put the claim into the store, or renew it."""
        self._beats += 1
        value = {"owner": f"{platform.node()}, process {os.getpid()}", "beat": self._beats, **_identity()}
        self._leases.store.tag_experiment(self.tag, json.dumps(value))
        self._renewed = time.time()

    def withdraw(self) -> None:
        """Take the claim back."""
        self._leases.store.untag_experiment(self._leases.store.experiment_id, self.tag)

    def rivals(self) -> list[Claim]:
        """Living claims of others on the same key."""
        return [c for c in self._leases._living() if c.key == self.key and c.tag != self.tag]

    def renew_in_background(self) -> None:
        """Renew the claim until the lease is given back or lost."""
        self._thread = threading.Thread(target=self._renew, name=f"lease {self.key}", daemon=True)
        self._thread.start()

    def _renew(self) -> None:
        while not self._done.wait(self._leases.seconds / BEATS):
            with contextlib.suppress(TrackingError):  # the store is away, for others as well
                self.lost = not self._still_mine()
                if self.lost:
                    self.withdraw()
                    return

    def _still_mine(self) -> bool:
        late = time.time() - self._renewed > self._leases.seconds / 2
        if self.tag not in self._leases.store.experiment_tags():
            return False
        self.write()
        # A late renewal may cross with a takeover, so it is a claim like the first.
        return not (late and self.rivals())


@cache
def _machine() -> str:
    """This machine and, in it, the space that process ids belong to; empty where the system doesn't say."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process of this machine was started, in ticks since boot; empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return ""
    state, *rest = fields.split()
    return "" if state in "ZX" else rest[18]


def _identity() -> dict[str, Any]:
    pid = os.getpid()
    return {"machine": _machine(), "process": pid, "started": _started(pid)}


def _read(experiment_id: str, tag: str, key: str, value: str) -> Claim:
    try:
        read = json.loads(value)
        owner = str(read["owner"])
        here = bool(read["machine"]) and read["machine"] == _machine()
        orphaned = here and _started(int(read["process"])) != read["started"]
    except (ValueError, TypeError, KeyError):
        owner, orphaned = "an unknown process", False
    return Claim(experiment_id, tag, key, value, owner, orphaned)
