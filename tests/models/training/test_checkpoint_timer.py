import itertools

import pytest

from models.training.checkpoint_timer import SAVE_SHARE, CheckpointTimer


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def saves(*, seconds: float, step: float, save: float, until: float) -> list[float]:
    """Return when a run whose steps take `step` seconds begins its saves, of `save` seconds each."""
    clock, found = Clock(), []
    timer, start = CheckpointTimer(seconds, clock=clock), clock.now
    while clock.now < start + until:
        clock.now += step
        if timer.due:
            found.append(clock.now - start)
            with timer.saving():
                clock.now += save
    return found


def test_the_first_checkpoint_is_due_after_the_pause() -> None:
    assert saves(seconds=60, step=7, save=0, until=200) == [63, 126, 189]


def test_checkpoints_that_take_long_take_a_share_of_the_time() -> None:
    found = saves(seconds=1, step=1, save=30, until=10_000)
    pauses = {later - earlier - 30 for earlier, later in itertools.pairwise(found)}
    assert pauses == {30 / SAVE_SHARE}
    assert len(found) * 30 / 10_000 <= SAVE_SHARE


@pytest.mark.parametrize("save", [0.0, 30.0])
def test_zero_seconds_means_after_each_step_however_long_it_takes(save: float) -> None:
    assert len(saves(seconds=0, step=1, save=save, until=100)) == pytest.approx(100 / (1 + save), abs=1)
