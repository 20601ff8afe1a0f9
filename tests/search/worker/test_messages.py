"""What driver and worker say to each other comes out of Tune's dicts as it went in."""

import json
from typing import Any

import pytest

from models.candidate import Candidate
from search.worker.messages import (
    REPORTS,
    RETRY_RATE,
    RETRY_SEED,
    Assignment,
    FailureReport,
    FoldRunOrder,
    FoldRunResources,
    FullDiskReport,
    MessageReport,
    Report,
    ScoreReport,
    UnfitNodeReport,
    order_from_dict,
    order_to_dict,
    report_from_dict,
    report_to_dict,
)

EXAMPLES: list[Report] = [
    ScoreReport(0.5, 1.5, -0.25, 12.0),
    FailureReport("no such backbone"),
    MessageReport("bf16", once="precision"),
    FullDiskReport(28, "No space left on device", None),
    UnfitNodeReport(("node a: no such file", "node a: no such folder")),
]


def test_every_kind_of_report_has_an_example() -> None:
    assert sorted(REPORTS) == sorted(report_to_dict(report)["report"] for report in EXAMPLES)


@pytest.mark.parametrize("report", EXAMPLES, ids=lambda report: type(report).__name__)
def test_a_report_comes_back_from_among_what_tune_adds(report: Report) -> None:
    tunes_own: dict[str, Any] = {"done": False, "trial_id": "a", "training_iteration": 1, "config": {}}
    assert report_from_dict({**report_to_dict(report), **tunes_own}) == report


@pytest.mark.parametrize("candidate", [Candidate(), Candidate(backbone_lr=3e-5, head="cls", epochs=2, seed=7)])
def test_an_order_comes_back_with_the_same_candidate(candidate: Candidate) -> None:
    order = FoldRunOrder(Assignment(candidate, 3, 1), FoldRunResources(2, 0.5, 4), threads=2, can_grow=True, restarts=1)
    config = order_to_dict(order)
    again = order_from_dict(json.loads(json.dumps(config)))
    assert again == order
    assert again.assignment.candidate.id == candidate.id


def test_a_trial_is_named_after_candidate_fold_retry_and_restarts() -> None:
    candidate = Candidate()
    label = f"{candidate.label}-f2-{candidate.id[:6]}"
    resources = FoldRunResources(1, 0)
    assert FoldRunOrder(Assignment(candidate, 2), resources, threads=1).trial_name == label
    retry = FoldRunOrder(Assignment(candidate, 2, 1), resources, threads=1, restarts=3)
    assert retry.trial_name == f"{label}-retry-again3"


def test_a_retry_trains_with_another_seed_and_lower_rates_under_the_same_name() -> None:
    plain, retry = Assignment(Candidate(), 0), Assignment(Candidate(), 0, 1)
    assert plain.candidate_to_train == plain.candidate == retry.candidate
    trained = retry.candidate_to_train
    assert trained.seed == plain.candidate.seed + RETRY_SEED
    assert trained.backbone_lr == plain.candidate.backbone_lr * RETRY_RATE
    assert trained.head_lr == plain.candidate.head_lr * RETRY_RATE
    assert (plain.checkpoint_folder("r"), retry.checkpoint_folder("r")) == (
        f"r/checkpoints/{plain.candidate.id}/fold-0",
        f"r/checkpoints/{plain.candidate.id}/fold-0-retry",
    )


@pytest.mark.parametrize(("gpu", "device"), [(0, "cpu"), (0.5, "auto"), (1, "auto")])
def test_a_fold_run_with_a_gpu_chooses_its_device_itself(gpu: float, device: str) -> None:
    assert FoldRunOrder(Assignment(Candidate(), 0), FoldRunResources(1, gpu), threads=1).device == device
