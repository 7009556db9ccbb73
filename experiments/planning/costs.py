"""Costs of a training step and of the evaluation of a clip on this machine, from runs that were timed."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from experiments.common.atomic_files import write_text
from experiments.data import cache_directory
from experiments.tracking.run_index import KnownRun

# Keys of the training section, beyond its objective, on which the time of a step depends.
_LOAD = ("batch_size", "accumulate", "crop_seconds", "optimizer", "precision", "compile", "tf32", "ema_decay")
_SCORED = ("data.test.content_hash", "data.content_hash")  # of the corpus that is scored, the first there is
CPU = "cpu"
_MEASURED = "step-costs.json"


def relevant(params: Mapping[str, str]) -> dict[str, str]:
    """Those of a run's flattened parameters on which its cost depends."""
    return {
        key: value
        for key, value in params.items()
        if key.startswith(("backbone.", "quantizer.", "train.objective"))
        or key.removeprefix("train.") in _LOAD
        or key in ("evaluate.metrics", *_SCORED, "train.steps")
    }


class Costs:
    """Mean times of runs like the one asked for: of the same configuration, else of the same quantizer at
    any rate, else of any quantizer on the same backbone.

    device: trainings on another one tell nothing. Runs that do not name theirs were trained on a CPU.
    """

    def __init__(self, known: Sequence[KnownRun], device: str = CPU) -> None:
        self._timed = [(relevant(run.params), run.metrics) for run in known]
        self._trained = [
            (relevant(run.params), run.metrics) for run in known if run.tags.get("device", CPU) == device
        ]

    def training(self, config: Mapping[str, str], steps: int) -> float | None:
        """Seconds of `steps` steps, or None where nothing alike was timed."""
        same = [
            (params, metrics["cost/train_seconds"] / int(params["train.steps"]))
            for params, metrics in self._trained
            if "cost/train_seconds" in metrics and params.get("train.steps", "").isdigit()
        ]
        mean = _mean(same, config, _setting)
        return None if mean is None else mean * steps

    def evaluation(self, config: Mapping[str, str], clips: int, scorings: int = 1) -> float | None:
        """Seconds of `scorings` evaluations of `clips` test clips (0: as many as were timed), or None."""
        same = []
        for params, metrics in self._timed:
            asked = max((value for key, value in metrics.items() if key.endswith("_asked")), default=0.0)
            if "cost/evaluate_seconds" in metrics and asked:
                seconds = metrics["cost/evaluate_seconds"]
                same.append((params, seconds / asked * clips if clips else seconds))
        here = [each for each in same if _corpus(each[0]) == _corpus(config)]
        mean = _mean(here or same, config, _scoring)
        return None if mean is None else mean * scorings


def _corpus(config: Mapping[str, str]) -> str:
    """Hash of the corpus that is scored."""
    return next((config[key] for key in _SCORED if key in config), "")


def _setting(config: Mapping[str, str]) -> dict[str, str]:
    left_out = ("quantizer.", "evaluate.", "data.", "train.steps")
    return {key: value for key, value in config.items() if not key.startswith(left_out)}


def _scoring(config: Mapping[str, str]) -> dict[str, str]:
    return {
        key: value
        for key, value in config.items()
        if key.startswith("backbone.") or key == "evaluate.metrics"
    }


def _mean(
    timed: Sequence[tuple[Mapping[str, str], float]],
    config: Mapping[str, str],
    condition: Callable[[Mapping[str, str]], dict[str, str]],
) -> float | None:
    alike = [(params, value) for params, value in timed if condition(params) == condition(config)]
    for keys in ([key for key in config if key.startswith("quantizer.")], ["quantizer.name"], []):
        values = [value for params, value in alike if all(params.get(key) == config.get(key) for key in keys)]
        if values:
            return sum(values) / len(values)
    return None


def measured() -> list[KnownRun]:
    """Runs that `timing.measure` timed on this machine."""
    try:
        kept = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [KnownRun(entry.get("tags", {}), entry["params"], entry["metrics"]) for entry in kept]


def keep(timed: Sequence[KnownRun]) -> None:
    """Keep timed runs for later plans on this machine, beside those of other configurations."""
    kept = {json.dumps([run.tags, run.params], sort_keys=True): run for run in (*measured(), *timed)}
    entries = [{"tags": run.tags, "params": run.params, "metrics": run.metrics} for run in kept.values()]
    write_text(_path(), json.dumps(entries))


def _path() -> Path:
    return cache_directory() / _MEASURED
