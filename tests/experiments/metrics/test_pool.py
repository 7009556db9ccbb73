import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.common import child_processes
from experiments.metrics import golden, pool
from experiments.metrics.scoring import OK, Task

RATE = 16000
CLIP = golden.utterance(1.0, RATE)


class Bomb:
    """Ends the process that unpickles it, as a crash in C code would."""

    def __reduce__(self):
        return os._exit, (1,)


def task(name, reference=CLIP, metric_names=("mel_distance", "si_sdr")):
    return Task(name, reference, 0.5 * CLIP, RATE, metric_names)


@pytest.fixture(autouse=True)
def _fresh_workers():
    yield
    pool.close()


def test_a_crash_is_a_status_and_everything_else_is_scored():
    tasks = [task("a"), task("b", reference=Bomb()), *(task(str(number)) for number in range(6))]
    scores = {(s.utterance, s.metric): s for results in pool.score_tasks(tasks, 2) for s in results}
    assert len(scores) == 16
    assert {key for key, score in scores.items() if score.status != OK} == {
        ("b", "mel_distance"),
        ("b", "si_sdr"),
    }
    assert scores["b", "si_sdr"].status == pool.CRASHED
    assert np.isnan(scores["b", "si_sdr"].value)


def test_tasks_are_read_only_as_fast_as_they_are_scored():
    read = 0

    def tasks():
        nonlocal read
        for number in range(30):
            read += 1
            yield task(str(number), metric_names=("si_sdr",))

    most_ahead = 0
    for done, _ in enumerate(pool.score_tasks(tasks(), 2)):
        most_ahead = max(most_ahead, read - done)
    assert most_ahead <= 2 * 2 + 1


def test_workers_are_kept_between_calls():
    list(pool.score_tasks([task("a")], 2))
    first = set(pool._pools[2]._processes)
    list(pool.score_tasks([task("b")], 2))
    assert set(pool._pools[2]._processes) == first


def test_stopping_half_way_waits_for_nothing():
    long = np.tile(CLIP, 100)
    tasks = (Task(str(number), long, 0.5 * long, RATE, ("dnsmos_sig",)) for number in range(100))
    results = pool.score_tasks(itertools.chain([task("a")], tasks), 2)
    next(results)
    workers = list(pool._pools[2]._processes)
    results.close()
    assert not pool._pools
    assert not any(_alive(number) for number in workers)
    assert len(list(pool.score_tasks([task("b")], 2))) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_workers_end_with_a_killed_parent():
    code = (
        "if __name__ == '__main__':\n"
        "    import time\n"
        "    from experiments.metrics import pool\n"
        "    print(*pool._pool(2)._processes, flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    workers = [int(number) for number in parent.stdout.readline().split()]
    assert len(workers) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while any(_alive(number) for number in workers):
        assert time.monotonic() < deadline, "workers outlived their parent"
        time.sleep(0.1)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    # A zombie that nobody has waited for yet is dead.
    status = Path(f"/proc/{process}/stat")
    return not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_workers_start_as_all_workers_of_codecbench_do(monkeypatch):
    asked = []
    real = pool.child_processes.context

    def context(modules):
        asked.append(list(modules))
        return real(modules)

    monkeypatch.setattr(pool.child_processes, "context", context)
    assert [len(scores) for scores in pool.score_tasks([task("a")], 2, {"pystoi", "pesq"})] == [2]
    assert asked == [["torch", "torchaudio", "experiments.metrics.scoring", "pesq", "pystoi"]]


def _in_a_worker(pipe):
    """What a worker process of a study does when it scores: it has workers of its own."""
    child_processes.become_worker()
    scores = [score for results in pool.score_tasks([task("a"), task("b")], 2) for score in results]
    processes = [process.pid for process in (pool._pools[2]._processes or {}).values()]
    pool.close()
    pipe.send((sorted((score.utterance, score.metric, score.value) for score in scores), processes))


def test_a_worker_process_scores_by_workers_of_its_own_and_ends_with_them():
    near, far = child_processes.context(["torch"]).Pipe()
    process = child_processes.context(["torch"]).Process(target=_in_a_worker, args=(far,))
    child_processes.start_process(process)
    scores, processes = near.recv()
    process.join(60)
    assert process.exitcode == 0
    assert not [each for each in processes if Path(f"/proc/{each}").exists()]
    here = [score for name in "ab" for score in pool.score_utterance(task(name))]
    assert scores == sorted((score.utterance, score.metric, score.value) for score in here)
