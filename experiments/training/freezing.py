"""Freezing of encoder or decoder: a training leaves them as they are, for good or for the first steps."""

from codec.model import Codec
from experiments.studies.sections import Train


def freeze(codec: Codec, config: Train, step: int, processes: int = 1) -> None:
    """Set which parts of `codec` the update after `step` finished ones may change, as `train.freeze` says.

    A frozen parameter has no gradient, so no optimizer moves it and its norm does not count. Several
    processes agree once on the parameters whose gradients they average: parts that thaw later are among
    them, and `drop_gradients` takes their place here.
    """
    if processes == 1 or config.freeze_steps is None:
        for part in config.freeze:
            codec.get_submodule(part).requires_grad_(not _frozen(config, step))


def drop_gradients(codec: Codec, config: Train, step: int) -> None:
    """Remove the gradients of the parts that are frozen at `step`, where there are any."""
    if _frozen(config, step):
        for part in config.freeze:
            codec.get_submodule(part).zero_grad(set_to_none=True)


def _frozen(config: Train, step: int) -> bool:
    return config.freeze_steps is None or step < config.freeze_steps
