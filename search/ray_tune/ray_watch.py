"""Ends waits inside Ray, many of which have no deadline, from a thread beside the main one."""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import TypeVar

from data_prep.console import EXIT_USER_FAULT, error_console
from search.ray_tune.ray_errors import NoRayError

Answer = TypeVar("Answer")

SIGNAL = signal.SIGUSR2
"""It interrupts the main thread. A process in the background of a script ignores SIGINT; SIGUSR1 is Tune's own."""
CHECK_SECONDS = 1.0
SILENT_SECONDS = 40.0
"""How long Ray may leave a question unanswered."""
SILENT = "Ray was lost: its GCS, a process of the head node, does not answer"
GRACE_SECONDS = 10.0
"""How long the main thread may take to leave a block after each interrupt."""
INTERRUPTS = 3
"""The first ends a wait, the others what cleans up after it."""


@contextmanager
def interrupted_by(
    fault: Callable[[], str],
    *,
    check_seconds: float = CHECK_SECONDS,
    grace_seconds: float = GRACE_SECONDS,
    end_process: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Run a block of the main thread until it ends or `fault` returns what is wrong.

    A block that no interrupt reaches, as it is deep inside Ray, ends with the process: the record is on disk.

    Raises:
        NoRayError: says what was wrong.
    """
    over, found = threading.Event(), list[str]()

    def watch() -> None:
        while not over.wait(check_seconds):
            if what := fault():
                found.append(what)
                for _ in range(INTERRUPTS):
                    _thread.interrupt_main(SIGNAL)
                    if over.wait(grace_seconds):
                        return
                (end_process or _end_process)(what)
                return

    watcher = threading.Thread(target=watch, name="watch-ray", daemon=True)
    before = signal.signal(SIGNAL, signal.default_int_handler)
    try:
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
    except KeyboardInterrupt:
        if found:
            raise NoRayError(found[0]) from None
        raise
    finally:
        signal.signal(SIGNAL, before)


def in_time(ask: Callable[[], Answer], seconds: float = SILENT_SECONDS) -> Answer:
    """Return what Ray answers, asked in a thread of its own: in the main one no interrupt would end the wait for it.

    Raises:
        NoRayError: it does not answer in time.
    """
    answer: Future[Answer] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="question-to-ray", daemon=True).start()
    try:
        return answer.result(seconds)
    except TimeoutError:
        raise NoRayError(SILENT) from None


def within(seconds: float, what: str) -> AbstractContextManager[None]:
    """Run a block for so long at most; `what` says what took too long.

    Raises:
        NoRayError: it took longer.
    """
    end = time.monotonic() + seconds
    return interrupted_by(lambda: f"{what} for {seconds:g} seconds" if time.monotonic() > end else "")


@contextmanager
def watched(
    is_alive: Callable[[], bool], *, check_seconds: float = CHECK_SECONDS, silent_seconds: float = SILENT_SECONDS
) -> Iterator[None]:
    """Run a block that uses Ray as long as `is_alive` says that this node belongs to it, and answers.

    Raises:
        NoRayError: it does not.
    """
    over = threading.Event()
    answered, gone = time.monotonic(), False

    def ask() -> None:
        nonlocal answered, gone
        while not over.wait(check_seconds):
            with suppress(Exception):  # an error is no answer
                gone = not is_alive()
                answered = time.monotonic()

    def fault() -> str:
        if gone:
            return "Ray was lost: its raylet on this machine is gone (killed, or out of memory?)"
        if time.monotonic() - answered > silent_seconds:
            return SILENT
        return ""

    asking = threading.Thread(target=ask, name="ask-ray", daemon=True)
    asking.start()
    try:
        with interrupted_by(fault, check_seconds=check_seconds):
            yield
    finally:
        over.set()
        asking.join(GRACE_SECONDS if not fault() else 0)


def _end_process(what: str) -> None:
    error_console.print(
        f"[bold red]error:[/] {what}, and does not let go of this process, which ends here; give the same command "
        "again: it continues from the record",
        highlight=False,
        soft_wrap=True,
    )
    os._exit(EXIT_USER_FAULT)
