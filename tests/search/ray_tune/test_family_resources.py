"""What a family is given after it ran out of memory: a larger share, then smaller parts, from one run to the next."""

from pathlib import Path

import pytest

from models.candidate import Candidate
from search.driver.conductor import Assignment
from search.ray_tune.family_resources import MemoryNeeds, Need
from search.study.study_file import StudyResources


def needs_of(folder: Path, nodes: list[tuple[float, float]], **resources: object) -> MemoryNeeds:
    return MemoryNeeds(str(folder), StudyResources(**resources), lambda: nodes)  # type: ignore[arg-type]


def give(needs: MemoryNeeds, times: int, family: str = "bert") -> list[Need]:
    return [needs.ran_out(family, needs.of(family)) for _ in range(times)]


def test_a_share_of_a_gpu_doubles_up_to_the_whole_then_parts_are_halved(tmp_path: Path) -> None:
    needs = needs_of(tmp_path, [(8.0, 1.0)], cpu=2, gpu=0.25)
    assert give(needs, 5) == [
        Need(4, 0.5),
        Need(8, 1.0),
        Need(8, 1.0, 2),
        Need(8, 1.0, 4),
        Need(8, 1.0, 8),
    ]


def test_where_cores_are_few_the_gpu_grows_alone(tmp_path: Path) -> None:
    assert give(needs_of(tmp_path, [(4.0, 1.0)], cpu=4, gpu=0.4), 3) == [Need(4, 0.8), Need(4, 1.0), Need(4, 1.0, 2)]


def test_without_gpus_more_cores_mean_fewer_side_by_side(tmp_path: Path) -> None:
    needs = needs_of(tmp_path, [(2.0, 0.0), (3.0, 0.0)], cpu=1)
    assert needs.can_grow("bert")
    assert give(needs, 3) == [Need(2, 0), Need(3, 0), Need(3, 0, 2)]
    assert not needs.can_grow("bert")
    assert needs.can_grow("another family")


def test_what_was_learned_is_heeded_by_a_later_run_and_by_the_family_alone(tmp_path: Path) -> None:
    give(needs_of(tmp_path, [(8.0, 0.0)], cpu=2), 1)
    later = needs_of(tmp_path, [(8.0, 0.0)], cpu=1)
    assert later.of("bert") == Need(4, 0)
    assert later.of("funnel") == Need(1, 0)
    assert needs_of(tmp_path, [(8.0, 0.0)], cpu=6).of("bert") == Need(6, 0)


def test_fold_runs_that_ran_out_together_enlarge_their_family_once(tmp_path: Path) -> None:
    needs = needs_of(tmp_path, [(8.0, 1.0)], cpu=1, gpu=0.25)
    given = needs.of("bert")
    assert [needs.ran_out("bert", given) for _ in range(4)] == [Need(2, 0.5)] * 4


@pytest.mark.parametrize("deaths", [1, 2, 3, 4])
def test_a_fold_run_gets_more_each_time_and_only_smaller_parts_count_as_deaths(deaths: int, tmp_path: Path) -> None:
    import ray

    from search.ray_tune.searcher import TRIES, FoldSearcher
    from stub_conductor import StubConductor

    conductor, resources = StubConductor([Assignment(Candidate(), 0, 0)]), StudyResources(cpu=1, gpu=0.25)
    needs = MemoryNeeds(str(tmp_path), resources, lambda: [(4.0, 1.0)])
    searcher = FoldSearcher(conductor, resources, lambda _: None, needs)  # type: ignore[arg-type]
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 1.0})
        for number in range(deaths):
            suggested = searcher.suggest(str(number))
            assert isinstance(suggested, dict)
            assert suggested["threads"] == 1
            given.append((suggested["gpu"], suggested["micro_batches"], suggested["can_grow"]))
            searcher.errors[str(number)] = "MemoryError: out of memory"
            searcher.on_trial_complete(str(number), error=True)
    assert given == [(0.25, 1, True), (0.5, 1, True), (1.0, 1, False), (1.0, 2, False)][:deaths]
    assert all(what == "lose 0" for what, _ in conductor.told)
    assert "given cpu=2, gpu=0.5 from now on" in conductor.told[0][1]
    assert TRIES == 2
