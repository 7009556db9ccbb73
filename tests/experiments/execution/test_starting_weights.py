"""The record of the weights that a run begins from: equal configurations need not give equal weights."""

import dataclasses
from typing import Any

from experiments.common import tensor_files
from experiments.common.run_folder import WEIGHTS
from experiments.execution.jobs import Settings
from experiments.studies.runs import Run
from experiments.tracking.schema import FINISHED, Tag
from experiments.tracking.store import Store
from experiments.training.state import backbone_digest
from tests.experiments.execution.test_damage import execute, seeded


def test_runs_of_a_seed_record_the_same_weights_until_the_warm_start_is_another(
    tiny: Run, settings: Settings, store: Store, link: Any
) -> None:
    first = seeded(tiny, 80)
    second = dataclasses.replace(first, train=tiny.train.model_copy(update={"steps": 3}), label="second")
    third = dataclasses.replace(first, train=tiny.train.model_copy(update={"steps": 5}), label="third")
    assert execute([first, second], settings, link) == [FINISHED] * 2
    start = first.warm_start()
    assert start is not None
    path = settings.directory / start.training_hash / WEIGHTS
    tensors, metadata = tensor_files.read(path)
    codec = start.codec()
    drawn = backbone_digest(codec)
    codec.load_state_dict(tensors)
    recorded = [_recorded(store, run) for run in (first, second)]
    assert recorded == [backbone_digest(codec)] * 2
    assert recorded[0] != drawn

    nudged = min(name for name, value in tensors.items() if name.startswith("encoder.") and value.numel() > 1)
    tensors[nudged] = tensors[nudged] * 1.0001  # as another processor's rounding would
    tensor_files.write(path, tensors, metadata)
    assert execute([third], settings, link) == [FINISHED]
    assert _recorded(store, third) not in {*recorded, drawn, ""}


def _recorded(store: Store, run: Run) -> str:
    (logged,) = store.search(run_hash=run.hash)
    return str(logged.data.tags.get(Tag.STARTING_WEIGHTS, ""))
