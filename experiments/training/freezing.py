"""Freezing of encoder or decoder: a training leaves them as they are, for good or for the first steps."""

from codec.model import Codec
from experiments.studies.sections import Train


def freeze(codec: Codec, config: Train, step: int) -> None:
    """Set which parts of `codec` the update after `step` finished ones may change, as `train.freeze` says.

    A frozen parameter has no gradient, so no optimizer moves it and its norm does not count.
    """
    frozen = config.freeze_steps is None or step < config.freeze_steps
    for part in config.freeze:
        codec.get_submodule(part).requires_grad_(not frozen)
