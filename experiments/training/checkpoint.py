"""Checkpoints: the state of a training in a file, from which it goes on bit for bit.

Two generations are kept. A file whose digest does not fit its content is removed, and the training goes on
from the one before, or begins again.
"""

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
from experiments.training import distributed
from experiments.training.state import TrainingState, below, read_json, set_random_state

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_log = logging.getLogger("codecbench.train")


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class Checkpoint:
    """The file of a training's state, and the one before it.

    configuration: what decides the result; a state of another one is refused. run_id: of MLflow.
    """

    path: Path
    configuration: Mapping[str, Any] = field(default_factory=dict)
    run_id: str = ""

    @property
    def generations(self) -> tuple[Path, Path]:
        """The file, and that of the generation before."""
        return self.path, self.path.with_name(f"{self.path.stem}.previous{self.path.suffix}")

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
            tensor_files.write(self.path, tensors, metadata, keep=self.generations[1])
        except OSError as error:
            raise CheckpointError(
                f"cannot write the checkpoint {self.path}: {error}. The last good one is kept. "
                "Remedy: make room on the disk, then start the same command again."
            ) from error

    def restore(self, state: TrainingState, fabric: "Fabric") -> list[str]:
        """Bring `state` and the random generators to the newest good file, if there is one. Every process
        calls this.

        With more processes than at the time, the random generators of the new ones stay as they are.

        Returns warnings of damaged files, which are removed. Raises CheckpointError for a file of another
        training, and for one that cannot be read at all or not in all processes.
        """
        present = [path.exists() for path in self.generations]
        if any(others != present for others in distributed.gather(fabric, present)):
            raise CheckpointError(
                f"{self.path} does not exist for all processes; give a folder for --runs that all machines "
                "share"
            )
        damage: list[str] = []
        for path in [path for path, exists in zip(self.generations, present, strict=True) if exists]:
            tensors, metadata, reason = self._read(path, state)
            reasons = [each for each in distributed.gather(fabric, reason) if each]
            if not reasons:
                self._load(state, tensors, metadata, fabric)
                then = f"goes on from the state before, of step {state.step}"
                return [f"{'; '.join(damage)}; {then}"] if damage else []
            damage.append(f"{path} is damaged ({reasons[0]})")
            if fabric.is_global_zero:
                path.unlink()
        state.run_id = self.run_id
        return [f"{'; '.join(damage)}; begins again"] if damage else []

    def remove(self) -> None:
        """Delete the files, where they are there."""
        for path in self.generations:
            path.unlink(missing_ok=True)

    def _read(self, path: Path, state: TrainingState) -> tuple[Mapping[str, Tensor], Mapping[str, str], str]:
        """Tensors and metadata of a file that `state` can take over, or why not. Raises CheckpointError."""
        try:
            tensors, metadata = tensor_files.read(path)
            differing = differences(read_json(metadata, "configuration"), self.configuration)
            if not differing:
                state.check(tensors, metadata)
        except OSError as error:
            raise CheckpointError(
                f"{path} cannot be read: {error}. Remedy: mend that, then start the same command again."
            ) from error
        except DamagedFile as error:
            return {}, {}, str(error)
        if differing:
            raise CheckpointError(
                f"{path} belongs to another training: {'; '.join(differing)}. "
                "Remedy: move it away, or ask for its configuration."
            )
        return tensors, metadata, ""

    def _load(
        self,
        state: TrainingState,
        tensors: Mapping[str, Tensor],
        metadata: Mapping[str, str],
        fabric: "Fabric",
    ) -> None:
        state.load(tensors, metadata)
        set_random_state(below(tensors, f"random/{fabric.global_rank}/"), fabric.device)
        if self.run_id and state.run_id != self.run_id:
            _log.info("begun in MLflow run %s, goes on in %s", state.run_id, self.run_id)
            state.run_id = self.run_id


def differences(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Every key in which two configurations differ, with both values."""
    before, now = flatten(saved), flatten(asked)
    return [
        f"{key} is {before.get(key, 'not there')} in the file and {now.get(key, 'not there')} now"
        for key in dict.fromkeys([*now, *before])
        if before.get(key) != now.get(key)
    ]
