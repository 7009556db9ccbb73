"""Checkpoints: the state of a training in one file, from which it goes on bit for bit."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from experiments.common import tensor_files
from experiments.common.flat_keys import flatten
from experiments.common.tensor_files import DamagedFile
from experiments.training import distributed as processes
from experiments.training.state import TrainingState, below, set_random_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_log = logging.getLogger("codecbench.train")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """The file of a training's state.

    configuration: what decides the result; a state of another one is refused. run_id: of MLflow.
    """

    path: Path
    configuration: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""

    def save(self, state: TrainingState, randoms: Sequence[Mapping[str, Tensor]]) -> None:
        """Write the state. Killed at any moment, this leaves the old file or the new one, whole.

        randoms: `random_state` of every process, by rank. Raises CheckpointError when the disk does not take
        the file.
        """
        tensors = state.tensors()
        for rank, random in enumerate(randoms):
            tensors |= {f"random/{rank}/{name}": value for name, value in random.items()}
        metadata = {"configuration": json.dumps(self.configuration), **state.metadata()}
        try:
            tensor_files.write(self.path, tensors, metadata)
        except OSError as error:
            raise CheckpointError(
                f"cannot write the checkpoint {self.path}: {error}. The last good one is kept. "
                "Remedy: make room on the disk, then start the same command again."
            ) from error

    def restore(self, state: TrainingState, fabric: "Fabric") -> None:
        """Bring `state` and the random generators to what the file holds, if there is one. Every process
        calls this.

        With more processes than at the time, the random generators of the new ones stay as they are. Raises
        CheckpointError for a damaged file or one of another training.
        """
        found = processes.gather(fabric, self.path.exists())
        if not any(found):
            state.run_id = self.run_id
            return
        if not all(found):
            raise CheckpointError(
                f"{self.path} is not there in all processes; give a folder for --runs that all machines share"
            )
        try:
            tensors, metadata = tensor_files.read(self.path)
        except (DamagedFile, OSError) as error:
            raise CheckpointError(
                f"{self.path} is no readable checkpoint ({error}); delete it to begin again"
            ) from error
        if differing := differences(json.loads(metadata.get("configuration", "{}")), self.configuration):
            raise CheckpointError(
                f"{self.path} belongs to another training: {'; '.join(differing)}. "
                "Remedy: move it away, or ask for its configuration."
            )
        state.load(tensors, metadata)
        set_random_state(below(tensors, f"random/{fabric.global_rank}/"), fabric.device)
        if self.run_id and state.run_id != self.run_id:
            _log.info("begun in MLflow run %s, goes on in %s", state.run_id, self.run_id)
            state.run_id = self.run_id

    def remove(self) -> None:
        """Delete the file, if it is there."""
        self.path.unlink(missing_ok=True)


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Every key in which two configurations differ, with both values."""
    before, now = flatten(saved), flatten(asked)
    return [
        f"{key} is {before.get(key, 'not there')} in the file and {now.get(key, 'not there')} now"
        for key in dict.fromkeys([*now, *before])
        if before.get(key) != now.get(key)
    ]
