"""Mirror of metrics in TensorBoard: a folder of events for each run."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from experiments.tracking.mirrors.contract import MirroredRun, MirrorError

_LONGEST = 80  # characters of a part of a path


@dataclass(frozen=True)
class TensorBoard:
    """Runs go to `folder/STUDY/RUN`."""

    folder: Path

    def check(self) -> None:
        """See that the library is installed and the folder can be written to. Raises MirrorError."""
        if find_spec("tensorboard") is None:
            raise MirrorError(
                "--mirror tensorboard needs a package. Remedy: pip install 'codecbench[tensorboard]'"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            raise MirrorError(
                f"--mirror tensorboard: nothing can be written to {self.folder}: {error.strerror or error}. "
                "Remedy: name another folder"
            ) from None

    def open(self, run: MirroredRun, step: int) -> _Events:
        """Open the events of a run; those after `step` are hidden by TensorBoard."""
        import yaml
        from torch.utils.tensorboard import SummaryWriter

        # The identity tells apart runs of one name, such as those of `run --force`.
        place = self.folder / _plain(run.study) / f"{_plain(run.name)}-{_plain(run.identity)[:8]}"
        writer = SummaryWriter(str(place), purge_step=step + 1 if step else None)
        if not step and run.config:
            text = yaml.safe_dump(dict(run.config), sort_keys=False)
            writer.add_text("configuration", "".join(f"    {line}\n" for line in text.splitlines()))
        return _Events(writer)


@dataclass
class _Events:
    writer: Any

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        self.metrics(step, values)
        self.writer.flush()

    def close(self, finished: bool) -> None:
        self.writer.close()


def _plain(text: str) -> str:
    """`text` as a part of a path."""
    return re.sub(r"[^\w.=+-]+", "-", text).strip(".-")[:_LONGEST] or "run"
