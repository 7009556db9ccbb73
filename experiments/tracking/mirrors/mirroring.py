"""Choose mirrors by address, and let a run write to them without being in danger from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from experiments.tracking.mirrors.contract import Destination, Mirror, MirroredRun, MirrorError
from experiments.tracking.mirrors.tensorboard import TensorBoard
from experiments.tracking.mirrors.wandb import WeightsAndBiases

Answer = TypeVar("Answer")

_KINDS = {"tensorboard": "DIR", "wandb": "PROJECT"}


def destination(address: str) -> Destination:
    """The destination that `tensorboard:DIR` or `wandb:PROJECT` names. Raises MirrorError."""
    kind, _, rest = address.partition(":")
    if kind not in _KINDS:
        known = ", ".join(f"{name}:{what}" for name, what in _KINDS.items())
        raise MirrorError(f"--mirror {address}: no such mirror; known: {known}")
    if not rest.strip():
        raise MirrorError(f"--mirror {address}: write it as {kind}:{_KINDS[kind]}")
    if kind == "tensorboard":
        return TensorBoard(Path(rest).expanduser().absolute())
    if set(rest) & set("/\\#?%:"):
        raise MirrorError(f"--mirror {address}: a project's name has none of / \\ # ? % :")
    return WeightsAndBiases(rest)


class Mirrors:
    """The mirrors of one run. One that fails is left alone from then on, after one warning."""

    def __init__(
        self, destinations: Sequence[Destination], run: MirroredRun, warn: Callable[[str], None]
    ) -> None:
        self._destinations, self._run, self._warn = destinations, run, warn
        self._open: list[Mirror] | None = None

    def begin(self, step: int) -> None:
        """Open all, after `step` finished steps; again does nothing."""
        if self._open is None:
            opened = [self._tried(partial(one.open, self._run, step), one) for one in self._destinations]
            self._open = [mirror for mirror in opened if mirror is not None]

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Show values of metrics."""
        self._all(lambda mirror: mirror.metrics(step, values))

    def scores(self, step: int, values: Mapping[str, float]) -> None:
        """Show final values."""
        self.begin(step)
        self._all(lambda mirror: mirror.scores(step, values))

    def close(self, finished: bool) -> None:
        """Close all."""
        self._all(lambda mirror: mirror.close(finished))
        self._open = []

    def _all(self, action: Callable[[Mirror], None]) -> None:
        def done(mirror: Mirror) -> bool:
            action(mirror)
            return True

        self._open = [one for one in self._open or () if self._tried(partial(done, one), one)]

    def _tried(self, action: Callable[[], Answer], what: object) -> Answer | None:
        """The result of `action`; None, after a warning, where it fails in any way."""
        try:
            return action()
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            self._warn(f"no more metrics go to the mirror {type(what).__name__.strip('_')}: {reason}")
            return None


@contextmanager
def mirrored(
    destinations: Sequence[Destination], run: MirroredRun, warn: Callable[[str], None]
) -> Iterator[Mirrors]:
    """The mirrors of a run, closed at its end."""
    mirrors = Mirrors(destinations, run, warn)
    finished = False
    try:
        yield mirrors
        finished = True
    finally:
        mirrors.close(finished)
