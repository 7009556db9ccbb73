"""Leases over a real store: never two holders, and none for the dead."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.tracking import leases
from experiments.tracking.leases import Leases
from experiments.tracking.store import Store

HOLD = """
import sys
from experiments.tracking.leases import Leases
from experiments.tracking.store import Store
lease = Leases(Store(sys.argv[1], "study"), 60).acquire("training")
print("held" if lease else "busy", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("leases")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield f"sqlite:///{folder}/mlflow.db"


@pytest.fixture
def store(uri: str) -> Store:
    return Store(uri, "study")


def test_one_holder_at_a_time_across_studies(store: Store, uri: str) -> None:
    mine, theirs = Leases(store, 60), Leases(Store(uri, "another study"), 60)
    lease = mine.acquire("x")
    assert lease is not None
    assert theirs.acquire("x") is None
    assert "process" in theirs.holders()["x"]
    other = theirs.acquire("y")
    assert other is not None
    with lease, other:
        assert set(mine.holders()) == {"x", "y"}
    assert mine.holders() == {}  # a clean end gives the lease back at once
    again = theirs.acquire("x")
    assert again is not None
    with again:
        assert mine.acquire("x") is None


def test_many_at_once_never_hold_it_together(uri: str) -> None:
    holding, together, held = threading.Lock(), [], []

    def contend() -> None:
        mine = Leases(Store(uri, "study"), 60)
        for _ in range(3):
            lease = mine.acquire("contended")
            if lease is not None:
                with lease:
                    together.append(not holding.acquire(blocking=False))
                    time.sleep(0.02)
                    if not together[-1]:
                        holding.release()
                held.append(True)

    threads = [threading.Thread(target=contend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held
    assert not any(together)


def test_a_killed_process_of_this_machine_loses_it_at_once(store: Store, uri: str, tmp_path: Path) -> None:
    mine = Leases(store, 1e9)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert mine.acquire("training") is None
        process.kill()
    lease = mine.acquire("training")
    assert lease is not None
    with lease:
        assert lease.rivals() == []


def test_a_machine_that_is_gone_loses_it_after_the_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    watch = SimpleNamespace(monotonic=lambda: clock[0], time=time.time, sleep=time.sleep)
    monkeypatch.setattr(leases, "time", watch)
    tag, value = "codecbench.lease.remote.0", {"owner": "far away", "machine": "far", "process": 7}
    value["started"] = "1"
    mine = Leases(store, 60)

    def pass_by(seconds: int) -> None:
        for _ in range(seconds // 10):
            clock[0] += 10
            mine.holders()

    store.tag_experiment(tag, json.dumps(value))
    assert mine.holders() == {"remote": "far away"}
    pass_by(60)
    assert mine.acquire("remote") is None
    store.tag_experiment(tag, json.dumps({**value, "beat": 4}))
    pass_by(60)
    assert mine.acquire("remote") is None  # it was only slow
    clock[0] += 500  # nobody looked: the store may have been away for the holder, too
    assert mine.acquire("remote") is None
    pass_by(70)
    assert tag not in store.experiment_tags()
    lease = mine.acquire("remote")
    assert lease is not None
    with lease:
        assert set(mine.holders()) == {"remote"}


def test_a_holder_renews_it_and_notices_a_takeover(
    store: Store, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "_machine", lambda: "")  # a system that doesn't say
    lease = Leases(store, 2.0).acquire("slow")
    assert lease is not None
    with lease:
        watch = Leases(Store(uri, "another study"), 60)
        before = store.experiment_tags()[lease.tag]
        deadline = time.monotonic() + 60
        while store.experiment_tags()[lease.tag] == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert "slow" in watch.holders()
        store.untag_experiment(store.experiment_id, lease.tag)  # as one does who takes it for dead
        while not lease.lost:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert lease.tag not in store.experiment_tags()
