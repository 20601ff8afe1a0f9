"""What a person is told while a search runs."""

import io
import re

import numpy as np
import pytest

from data_prep.console import EscapingConsole
from data_prep.scoring.metrics import METRICS
from models.candidate import Candidate
from search.ladder.decisions import Decision
from search.run_dir.curves import CurvePoint
from search.study.study_file import StudyResources
from search.watch.console_lines import ConsoleLines
from search.watch.run_statistics import RunStatistics
from search.worker.messages import Assignment

CANDIDATES = [Candidate(seed=seed) for seed in range(12)]


def told(metric: str, done: list[tuple[int, int, float]], recalled: int = 0) -> list[str]:
    """Return what is said of the best after each fold run (candidate, fold, metric), the first ones done before."""
    output = io.StringIO()
    console = EscapingConsole(file=output, width=200)
    statistics = RunStatistics(
        metric=METRICS[metric],
        n_folds=4,
        resources=StudyResources(),
        training_rows=[100] * 4,
        clock=lambda: 0.0,
    )
    progress = ConsoleLines(console, statistics)
    for number, (candidate, fold, value) in enumerate(done):
        assignment = Assignment(CANDIDATES[candidate], fold, 0)
        if number < recalled:
            progress.recalled(assignment.candidate, fold, value)
            continue
        progress.started(assignment)
        point = CurvePoint(assignment.candidate.id, fold, 1.0, 1.0, value, 1.0)
        progress.reported(assignment, point, Decision(True, ""))
    found = re.findall(r"best so far .* ([0-9a-f]{6}): ([0-9.]+) over ([0-9]) of 4 folds", output.getvalue())
    return [" ".join(entry) for entry in found]


@pytest.mark.parametrize("metric", ["pearson", "rmse"])
@pytest.mark.parametrize("recalled", [0, 9])
def test_the_best_has_the_best_mean_of_those_with_most_folds(metric: str, recalled: int) -> None:
    generator = np.random.default_rng(3)
    runs = [(candidate, fold) for candidate in range(12) for fold in range(int(generator.integers(1, 5)))]
    runs = sorted(runs, key=lambda run: (run[1] + 3 * generator.random(), run))
    done = [(candidate, fold, float(generator.random())) for candidate, fold in runs]
    expected = []
    for number in range(1, len(done) + 1):
        scores: dict[int, list[float]] = {}
        for candidate, _, value in done[:number]:
            scores.setdefault(candidate, []).append(value)
        most = max(len(values) for values in scores.values())
        means = {candidate: sum(values) / most for candidate, values in scores.items() if len(values) == most}
        best = max(means, key=lambda candidate: means[candidate] * (1 if metric == "pearson" else -1))
        expected.append(f"{CANDIDATES[best].id[:6]} {means[best]:.4f} {most}")
    assert told(metric, done, recalled) == expected[recalled:]
