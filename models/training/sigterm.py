"""SIGTERM, which announces that a spot node is about to be taken: the state is saved between two steps of training."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

PATIENCE_SECONDS = 90.0
"""How long a process that trains may take to save its state; a spot node has about two minutes."""

_asked = threading.Event()
_at_rest = threading.Event()
_at_rest.set()


class Terminated(SystemExit):
    """Training ended because its process got SIGTERM; its state is saved. Ends the process as SIGTERM does."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


def delay_sigterm(patience: float = PATIENCE_SECONDS) -> None:
    """Make SIGTERM wait, from now on, until the thread that trains has saved its state; then it acts as before.

    For a main thread (only it gets signals and may call this) that waits while another trains, as in a Ray worker.
    """
    before = signal.getsignal(signal.SIGTERM)
    if isinstance(before, _Waiting):
        return
    signal.signal(signal.SIGTERM, _Waiting(before, patience))


class _Waiting:
    """The handler that waits."""

    def __init__(self, before: object, patience: float) -> None:
        self._before = before
        self._patience = patience

    def __call__(self, number: int, frame: FrameType | None) -> None:
        _asked.set()
        _at_rest.wait(self._patience)
        if callable(self._before):
            self._before(number, frame)
        else:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            os.kill(os.getpid(), number)


@contextmanager
def training() -> Iterator[Callable[[], bool]]:
    """Mark the time in which this process trains; yields a function: whether SIGTERM came since then.

    In the main thread SIGTERM is only noted meanwhile: training checks for it, saves its state and raises `Terminated`.
    """
    own = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *_: _asked.set()) if own else None
    _at_rest.clear()
    try:
        yield _asked.is_set
    finally:
        _at_rest.set()
        if own:
            _asked.clear()
            signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
