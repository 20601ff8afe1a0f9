"""Fold runs whose tables are gone: each is trained again once, and again only when its worker is lost."""

from search.driver.lost_tables import LostTables
from search.ladder.decisions import FoldRun

FIRST, SECOND = FoldRun("a", "bert", 0), FoldRun("b", "bert", 1)


def test_each_is_handed_out_once_and_waits_again_when_its_worker_is_lost() -> None:
    lost = LostTables()
    assert not lost
    lost.add([FIRST, SECOND])
    assert (bool(lost), lost.n_waiting) == (True, 2)
    assert [lost.start_next() for _ in range(3)] == [FIRST, SECOND, None]
    lost.wait_again(FIRST)
    assert (lost.is_live(FIRST), lost.is_live(SECOND), lost.n_waiting) == (False, True, 1)
    assert lost.start_next() == FIRST


def test_one_that_ended_is_not_added_again_even_if_its_tables_are_still_gone() -> None:
    lost = LostTables()
    lost.add([FIRST])
    lost.start_next()
    lost.end(FIRST)
    lost.add([FIRST, SECOND])
    assert [lost.start_next(), lost.start_next()] == [SECOND, None]
