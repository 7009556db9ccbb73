"""Mirror of metrics in Weights & Biases: a run of a project for each run, grouped by study.

The library keeps the key and the address, and sends from a process of its own. `WANDB_MODE=offline` writes to
files, which `wandb sync` sends later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from experiments.tracking.mirrors.contract import MirroredRun, MirrorError

STEP = "step"  # the axis of all metrics: the library's own counts calls, and never goes back
_OFFLINE = ("offline", "dryrun", "disabled")
_SECONDS = 60  # for the first answer of the server, and for the last values at the end


@dataclass(frozen=True)
class WeightsAndBiases:
    """Runs go to the project `project`, of the entity that the library knows."""

    project: str

    def check(self) -> None:
        """See that the library is installed and has a key, unless it is offline. Raises MirrorError."""
        if find_spec("wandb") is None:
            raise MirrorError("--mirror wandb needs a package. Remedy: pip install 'codecbench[wandb]'")
        import wandb

        if wandb.setup().settings.mode in _OFFLINE:
            return
        try:
            known = wandb.login(prompt=False)
        except Exception as error:
            known = False
            reason = f" ({type(error).__name__})"
        else:
            reason = ""
        if not known:
            raise MirrorError(
                f"--mirror wandb: no key for Weights & Biases{reason}. Remedy: `wandb login`, or set "
                "WANDB_MODE=offline and send the files later by `wandb sync`"
            )

    def open(self, run: MirroredRun, step: int) -> _Run:
        """Open a run, or go on with it."""
        import wandb

        opened = wandb.init(
            project=self.project,
            group=run.study,
            name=run.name,
            id=run.identity,
            config=dict(run.config),
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                save_code=False,
                init_timeout=_SECONDS,
                finish_timeout=_SECONDS,
                finish_timeout_raises=False,
            ),
        )
        opened.define_metric("*", step_metric=STEP)
        return _Run(opened)


@dataclass
class _Run:
    run: Any

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.run.log({**values, STEP: step})

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        self.metrics(step, values)
        self.run.summary.update(dict(values))

    def close(self, finished: bool) -> None:
        self.run.finish(exit_code=0 if finished else 1)
