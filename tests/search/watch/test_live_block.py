"""What a terminal shows while a search runs, and that a pipe gets the events as lines."""

import io
from dataclasses import replace

import pytest

from data_prep.console import EscapingConsole
from data_prep.scoring.metrics import METRICS
from models.candidate import Candidate
from search.ladder.decisions import BestBlend, Decision
from search.run_dir.curves import CurvePoint
from search.study.study_file import StudyResources
from search.watch.console_lines import ConsoleLines
from search.watch.live_block import MOST_RUNNING, live_block, progress_text
from search.watch.run_statistics import RunStatistics
from search.worker.messages import Assignment

FIRST, SECOND = Candidate(seed=1), Candidate(seed=2)


@pytest.fixture
def statistics() -> RunStatistics:
    """Return the statistics of two candidates of which one has finished fold 0, two more to come."""
    time = iter(range(0, 10_000, 10))
    found = RunStatistics(
        metric=METRICS["pearson"],
        n_folds=4,
        resources=StudyResources(),
        training_rows=[100] * 4,
        clock=lambda: float(next(time)),
    )
    found.to_come = lambda: 2
    for candidate in (FIRST, SECOND):
        found.started(Assignment(candidate, 0, 0))
    found.reported(Assignment(FIRST, 0, 0), CurvePoint(FIRST.id, 0, 1.0, 1.0, 0.5, 10.0), Decision(True, "done"))
    found.reported(Assignment(SECOND, 0, 0), CurvePoint(SECOND.id, 0, 0.5, 0.5, 0.4, 5.0), Decision(True, "goes on"))
    return found


def shown(statistics: RunStatistics, width: int = 80) -> str:
    console = EscapingConsole(width=width, file=io.StringIO(), record=True)
    console.print(live_block(statistics.snapshot(), title=lambda candidate, _: f"name-of-{candidate[:6]}", latest=()))
    return console.export_text()


def test_fold_runs_are_counted_against_those_to_expect(statistics: RunStatistics) -> None:
    pulse = statistics.snapshot()
    assert (pulse.ended_runs, pulse.runs_least) == (1, 1 + 1 + 2)
    assert pulse.runs_most is not None
    assert pulse.runs_most >= 4 + 3, "one of a family is promoted to the other folds"
    assert progress_text(pulse) == f"1 / 4 to {round(pulse.runs_most)} fold runs"
    assert progress_text(replace(pulse, runs_most=4.0)) == "1 / 4 fold runs"


def test_a_stopped_fold_run_has_ended_and_a_promoted_one_opens_the_other_folds(statistics: RunStatistics) -> None:
    cut = CurvePoint(SECOND.id, 0, 1.0, 1.0, 0.1, 9.0)
    statistics.reported(Assignment(SECOND, 0, 0), cut, Decision(False, "cut"))
    statistics.started(Assignment(FIRST, 1, 0))
    pulse = statistics.snapshot()
    assert (pulse.ended_runs, pulse.runs_least) == (2, 2 + 1 + 2 + 2), "ended, on a worker, to come, open folds"


@pytest.mark.parametrize("width", [80, 120])
def test_the_block_shows_how_far_it_is_what_runs_what_is_best_and_the_blend(
    statistics: RunStatistics, width: int
) -> None:
    statistics.blends.best = BestBlend(0.6123, 2, 3)
    page = shown(statistics, width)
    first, *lines = [line.rstrip() for line in page.splitlines()]
    assert "1 / 4 to" in first
    assert first.endswith("left")
    assert f"  best     name-of-{FIRST.id[:6]}: pearson 0.5000 over 1 of 4 folds" in lines
    assert any(line.startswith("  blend    2 of 3 complete candidates: pearson 0.6123") for line in lines)
    (running,) = (line for line in lines if "running" in line)
    assert running.split()[:4] == ["running", f"name-of-{SECOND.id[:6]}", "fold", "0"]
    assert running.endswith("50%, pearson 0.4000")
    assert max(map(len, page.splitlines())) <= width


def test_many_workers_do_not_push_the_rest_off_the_screen(statistics: RunStatistics) -> None:
    for seed in range(3, 3 + MOST_RUNNING):
        statistics.started(Assignment(Candidate(seed=seed), 0, 0))
    assert shown(statistics).count("running") == MOST_RUNNING
    assert "and 1 more" in shown(statistics)


def events(console: EscapingConsole, statistics: RunStatistics) -> None:
    with ConsoleLines(console, statistics, {FIRST.id: "first"}) as progress:
        progress.started(Assignment(FIRST, 1, 0))
        progress.reported(Assignment(FIRST, 1, 0), CurvePoint(FIRST.id, 1, 0.5, 0.5, 0.4, 5.0), Decision(True, "fine"))
        progress.failed(Assignment(FIRST, 1, 0), "its worker died")
        progress.note("a note")


def test_a_pipe_gets_every_event_as_a_line(statistics: RunStatistics) -> None:
    output = io.StringIO()
    events(EscapingConsole(file=output, width=200), statistics)
    label = Assignment(FIRST, 1, 0).label
    texts = [line.split("  ", 2)[-1].strip() for line in output.getvalue().splitlines()]
    assert [text.removeprefix(f"{label}  ") for text in texts] == [
        "starts",
        "fine",
        "failed: its worker died",
        "a note",
    ]


def test_a_terminal_gets_one_block_and_keeps_what_went_wrong(
    statistics: RunStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    output = io.StringIO()
    events(EscapingConsole(file=output, force_terminal=True, width=120, height=40, color_system=None), statistics)
    text = output.getvalue()
    kept = text.split("\x1b[1A")[-1]
    assert "fold runs" in text
    assert "starts" in text
    assert f"first {FIRST.id[:6]}" in text
    assert "failed: its worker died" in text
    assert "fold runs" not in kept.split("\x1b[2K")[-1], "the block is gone at the end"
