"""Threads that decode audio: as many as the process has cores, or as it is told."""

import pytest

from experiments.common import machine


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, 12),
        ({"LOCAL_WORLD_SIZE": "8"}, 1),
        ({"LOCAL_WORLD_SIZE": "4"}, 3),
        ({"CODECBENCH_DATA_THREADS": "5", "LOCAL_WORLD_SIZE": "4"}, 5),
        ({"CODECBENCH_DATA_THREADS": "0"}, 12),
        ({"CODECBENCH_DATA_THREADS": "many", "LOCAL_WORLD_SIZE": "none"}, 12),
    ],
)
def test_threads_follow_the_cores(
    variables: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CODECBENCH_DATA_THREADS", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(machine, "cores", lambda: 12)
    assert machine.data_threads() == expected
