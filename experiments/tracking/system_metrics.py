"""How busy the machine is while a run trains, under the names that MLflow's UI shows as system metrics."""

import time
from contextlib import suppress
from typing import Any

SECONDS = 10.0  # between two samples


class SystemMetrics:
    """CPU, memory, disk, network, GPU (with nvidia-ml-py) and this process's own share of them.

    MLflow's own monitor logs from a thread and gives up with the tracking server; its readings are taken
    here where a training logs anyway, and go the way of all metrics.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        import psutil
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        self.seconds = seconds
        self._monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
        with suppress(ImportError, RuntimeError):  # no nvidia-ml-py; no such GPU
            self._monitors.append(GPUMonitor())
        self._process = psutil.Process()
        self._next = 0.0
        # A share of time is one since the reading before: this is the first.
        self._process.cpu_percent()
        psutil.cpu_percent()

    def sample(self) -> dict[str, float]:
        """`system/<name>` to value, each since the last sample; nothing where that was a moment ago."""
        if time.monotonic() < self._next:
            return {}
        self._next = time.monotonic() + self.seconds
        values = {
            "process_cpu_utilization_percentage": self._process.cpu_percent(),
            "process_memory_usage_megabytes": self._process.memory_info().rss / 1e6,
        }
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return {f"system/{name}": float(value) for name, value in values.items()}
