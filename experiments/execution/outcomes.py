"""Outcomes by error: one table for all kinds of jobs, and the reason in words."""

import errno
import traceback
from pathlib import Path

from experiments.execution.jobs import ELSEWHERE, STOPPED, Outcome
from experiments.tracking.schema import DIVERGED, FAILED, PRUNED
from experiments.tracking.store import TrackingError
from experiments.training import distributed
from experiments.training.checkpoint import CheckpointError
from experiments.training.observer import Diverged, Interrupted
from quantizers import NonFiniteError


class Pruned(Interrupted):
    """A search gave the training up; its state is saved."""


# The first class that an error belongs to decides. What is the machine's trouble, and not the run's, only
# stops a run: the same command goes on when it is mended.
_STATUSES: tuple[tuple[type[Exception], str], ...] = (
    (Pruned, PRUNED),
    (Interrupted, STOPPED),
    (TrackingError, STOPPED),
    (CheckpointError, STOPPED),
    (Diverged, DIVERGED),
    (NonFiniteError, DIVERGED),
    (Exception, FAILED),
)
_OUT_OF_MEMORY = (
    "out of GPU memory. Remedy: raise train.accumulate (auto finds it), which computes the crops of a step "
    "in more parts and keeps train.batch_size; or lower train.batch_size or train.crop_seconds; or start "
    "fewer runs a device (--runs-per-device)"
)
_OF_THE_DISK = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.ESTALE),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE),
}
# Errors of a program, whose text means nothing without their class and place.
_OF_A_PROGRAM = (
    *(ArithmeticError, AssertionError, AttributeError, BufferError, EOFError, ImportError, LookupError),
    *(MemoryError, NameError, NotImplementedError, RecursionError, TypeError, UnicodeError),
)


def outcome_of(error: Exception, lease_lost: bool = False) -> Outcome:
    """The outcome of a job that ended by `error`. lease_lost: another runner works on it by now."""
    if lease_lost:
        return Outcome(ELSEWHERE, "taken over while this machine was cut off")
    if distributed.is_lost_peer(error):
        return Outcome(STOPPED, "another process of this training has ended; the same command goes on")
    if _is_of_the_disk(error):
        reason = reason_of(error)
        remedy = "" if "Remedy: " in reason else ". Remedy: mend that, then start the same command again."
        return Outcome(STOPPED, f"{reason}{remedy}")
    if _is_of_the_gpu_memory(error):
        return Outcome(FAILED, f"{_OUT_OF_MEMORY} (the GPU says: {reason_of(error)})")
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    lost = isinstance(error, TrackingError) and (error.away or error.gone)
    return Outcome(status, reason_of(error), store_lost=lost)


def reason_of(error: BaseException) -> str:
    """Why, in one line that is never empty: the message of an error that was made for people, and class and
    place beside that of any other."""
    text = " ".join(str(error).split())
    if text and not isinstance(error, _OF_A_PROGRAM):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}{': ' if text else ''}{text}{place}"


def _is_of_the_gpu_memory(error: BaseException) -> bool:
    """Tell torch.OutOfMemoryError by its name: outcomes are told in processes that never import torch."""
    return any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)


def _is_of_the_disk(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        return True
    return "No space left on device" in str(error)  # of a library that has made its own error of it
