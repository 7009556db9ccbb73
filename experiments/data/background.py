"""Batches that a thread prepares while earlier ones are used: the same batches, in the same order."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from experiments.data.signal import Float32

AHEAD = 2  # batches that are ready before they are asked for, at most

Prepared = TypeVar("Prepared")


class Crops(Protocol):
    """Batches of crops by step, and a position in them: `dataset.Crops` and `streaming.StreamedCrops`."""

    def batch(self, step: int) -> Float32: ...

    def describe(self, step: int) -> str: ...

    def cursor(self) -> dict[str, Any]: ...

    def seek(self, cursor: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class _Made(NamedTuple):
    """The batch of one step and the position after it, or the error that it ended by."""

    batch: Any
    cursor: dict[str, Any]
    error: BaseException | None = None


class BackgroundBatches(Generic[Prepared]):
    """Batches of `crops`, each as `prepare` returns it, made by one thread up to `ahead` batches early.

    The thread starts with the first batch, and ends at `close`, at `seek`, and where a step is asked for
    that does not follow the last one. The position is that of the batches that were taken: what was made
    early and not taken is dropped, and made again.
    """

    def __init__(self, crops: Crops, prepare: Callable[[Float32], Prepared], *, ahead: int = AHEAD) -> None:
        self._crops, self._prepare, self._ahead = crops, prepare, ahead
        self._cursor = crops.cursor()
        self._next = 0  # step of the first batch in `_ready`
        self._ready: deque[_Made] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def batch(self, step: int) -> Prepared:
        """The batch of `step`. Raises what the thread met when it made this batch."""
        if self._thread is None or step != self._next:
            self._stop()
            self._crops.seek(self._cursor)
            self._start(step)
        with self._changed:
            self._changed.wait_for(lambda: self._ready)
            made = self._ready[0]
            if made.error is not None:  # it stays, since the thread has ended with it
                raise made.error
            self._ready.popleft()
            self._changed.notify_all()
        self._next, self._cursor = step + 1, made.cursor
        batch: Prepared = made.batch
        return batch

    def describe(self, step: int) -> str:
        """The clips of the batch of `step`, one of the last few."""
        return self._crops.describe(step)

    def cursor(self) -> dict[str, Any]:
        """The position after the last batch that was taken, for `seek`."""
        return self._cursor

    def seek(self, cursor: Mapping[str, Any]) -> None:
        """Go on where `cursor` was taken."""
        self._stop()
        self._crops.seek(cursor)
        self._cursor = self._crops.cursor()

    def close(self) -> None:
        """End the thread and those of the crops, which reads no more."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._crops.close()  # the thread may wait for them
        self._stop()

    def _start(self, step: int) -> None:
        self._next, self._stopping = step, False
        # A daemon, so that a read that never ends does not keep a process that has been told to end.
        self._thread = threading.Thread(target=self._make, args=(step,), name="batches", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        """End the thread, when it is done with the batch that it makes, and drop what it has made."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        self._ready.clear()

    def _make(self, step: int) -> None:
        """The life of the thread: batches from `step` on, as there is room for them."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or len(self._ready) < self._ahead)
                if self._stopping:
                    return
            try:
                made = _Made(self._prepare(self._crops.batch(step)), self._crops.cursor())
            except BaseException as error:  # whatever it is, the training must hear of it
                made = _Made(None, {}, error)
            with self._changed:
                self._ready.append(made)
                self._changed.notify_all()
            if made.error is not None:
                return
            step += 1
