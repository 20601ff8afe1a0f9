"""Waits that never end, end: by an interrupt, or with the process."""

import _thread
import signal
import time
from collections.abc import Callable

import pytest

from search.ray_tune.ray_errors import NoRayError
from search.ray_tune.ray_watch import INTERRUPTS, in_time, interrupted_by, watched, within

QUICK = 0.01


def wait_for_ever() -> None:
    for _ in range(1000):
        time.sleep(QUICK)
    pytest.fail("nothing ended the wait")


def test_a_block_that_ends_is_left_alone() -> None:
    with within(60, "it took"), watched(lambda: True, check_seconds=QUICK), interrupted_by(lambda: ""):
        time.sleep(5 * QUICK)


def test_a_deadline_ends_a_wait_and_says_what_took_too_long() -> None:
    begun = time.monotonic()
    with (
        pytest.raises(NoRayError, match=r"^it has been starting for 0\.1 seconds$"),
        within(0.1, "it has been starting"),
    ):
        wait_for_ever()
    assert time.monotonic() - begun < 10


def hang() -> bool:
    time.sleep(3)
    return True


def no_answer() -> bool:
    raise ConnectionError("no answer")


@pytest.mark.parametrize(
    ("is_alive", "message"),
    [(lambda: False, "raylet on this machine is gone"), (no_answer, "does not answer"), (hang, "does not answer")],
)
def test_a_lost_ray_ends_a_wait(is_alive: Callable[[], bool], message: str) -> None:
    with (
        pytest.raises(NoRayError, match=f"Ray was lost: .*{message}"),
        watched(is_alive, check_seconds=QUICK, silent_seconds=0.2),
    ):
        wait_for_ever()


def test_a_process_in_the_background_of_a_script_is_interrupted_too() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(NoRayError), within(0.1, "it has been starting"):
            wait_for_ever()
    finally:
        signal.signal(signal.SIGINT, before)


def test_an_interrupt_by_the_user_stays_one_and_an_error_of_the_block_itself() -> None:
    for error in (KeyboardInterrupt, KeyError):
        with pytest.raises(error), watched(lambda: True, check_seconds=QUICK):
            raise error


def test_what_no_interrupt_reaches_ends_with_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts, ended = list[int](), list[str]()
    monkeypatch.setattr(_thread, "interrupt_main", lambda _: interrupts.append(1))
    with interrupted_by(lambda: "lost", check_seconds=QUICK, grace_seconds=QUICK, end_process=ended.append):
        while not ended:
            time.sleep(QUICK)
    assert ended == ["lost"]
    assert len(interrupts) == INTERRUPTS


def test_a_question_that_ray_does_not_answer_is_given_up() -> None:
    assert in_time(lambda: 5) == 5
    with pytest.raises(ConnectionError, match="no answer"):
        in_time(no_answer)
    with pytest.raises(NoRayError, match="does not answer"):
        in_time(hang, seconds=QUICK)
