"""The sampler: deterministic by seed, never twice the same, the same after an interruption."""

from typing import Any

import pytest

from search.sampler import SAMPLERS, Sample, Sampler
from search.space import Space, read_space

SPACE: dict[str, Any] = {
    "backbone_lr": {"loguniform": [1.0e-5, 1.0e-3]},
    "epochs": {"int": [1, 4]},
    "loss": ["mse", "bce"],
    "head_dropout": {"uniform": [0.0, 0.3], "when": {"loss": "bce"}},
}
SMALL: dict[str, Any] = {"epochs": [1, 2], "loss": ["mse", "bce"]}


def utility(sample: Sample) -> float:
    return -abs(sample.candidate.epochs - 3) - abs(sample.candidate.backbone_lr - 3e-4) * 1e3


def tell(sampler: Sampler, sample: Sample) -> None:
    """Finish two of three candidates, stop every third at half of its schedule, and fail one."""
    if sample.number == 4:
        sampler.tell(sample.candidate.id, None)
    else:
        sampler.tell(sample.candidate.id, utility(sample), progress=0.5 if sample.number % 3 == 2 else 1.0)


def draw(sampler: Sampler, number: int, taken: set[str] | None = None) -> list[Sample]:
    taken = set() if taken is None else taken
    found = []
    for _ in range(number):
        sample = sampler.ask(taken)
        if sample is None:
            break
        taken.add(sample.candidate.id)
        tell(sampler, sample)
        found.append(sample)
    return found


def new(kind: Any, space: Space, seed: int = 1) -> Sampler:
    return Sampler(space, kind=kind, seed=seed)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_same_seed_same_candidates(kind: str) -> None:
    space = read_space(SPACE)
    assert draw(new(kind, space), 20) == draw(new(kind, space), 20)
    assert draw(new(kind, space), 20) != draw(new(kind, space, seed=2), 20)


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("cut", [1, 5, 13, 19])
def test_interrupted_it_goes_on_with_the_same_candidates(kind: str, cut: int) -> None:
    space = read_space(SPACE)
    whole = draw(new(kind, space), 25)
    again = new(kind, space)
    for sample in whole[:cut]:
        again.recall(sample)
    for sample in whole[:cut]:
        tell(again, sample)
    assert draw(again, 25 - cut, {sample.candidate.id for sample in whole[:cut]}) == whole[cut:]


@pytest.mark.parametrize("kind", [*SAMPLERS, "grid"])
def test_known_candidates_are_not_drawn_and_an_exhausted_space_says_so(kind: str) -> None:
    space = read_space(SMALL)
    taken = {draw(new("grid", space), 1)[0].candidate.id}
    sampler = new(kind, space)
    found = [sample.candidate.id for sample in draw(sampler, 10, taken)]
    assert len(found) == len(set(found)) == 3
    assert sampler.ask(taken) is None


def test_grid_lists_everything_once_in_an_order_of_its_seed() -> None:
    space = read_space({**SMALL, "head": {"choice": ["cls", "mean"], "when": {"loss": "mse"}}})
    first, second = (
        [tuple(sample.settings.items()) for sample in draw(new("grid", space, seed), 99)] for seed in (1, 2)
    )
    assert len(first) == len(set(first)) == 6
    assert sorted(first) == sorted(second)
    assert first != second


def test_tpe_learns() -> None:
    space = read_space(SPACE)
    late = {
        kind: sum(sum(map(utility, draw(new(kind, space, seed), 40)[20:])) for seed in range(5)) for kind in SAMPLERS
    }
    assert late["tpe"] > late["random"]
