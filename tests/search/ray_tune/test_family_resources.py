"""What a family gets after it ran out of memory: a larger share, then smaller micro-batches, also in later runs."""

from pathlib import Path

from search.ray_tune.family_resources import FamilyResources
from search.study.study_file import StudyResources
from search.worker.messages import FoldRunResources


def resources_of(folder: Path, nodes: list[tuple[float, float]], **resources: object) -> FamilyResources:
    return FamilyResources(str(folder), StudyResources(**resources), lambda: nodes)  # type: ignore[arg-type]


def give(families: FamilyResources, times: int, family: str = "bert") -> list[FoldRunResources]:
    return [families.ran_out(family, families.of(family)) for _ in range(times)]


def test_a_share_of_a_gpu_doubles_up_to_the_whole_then_parts_are_halved(tmp_path: Path) -> None:
    families = resources_of(tmp_path, [(8.0, 1.0)], cpu=2, gpu=0.25)
    assert give(families, 5) == [
        FoldRunResources(4, 0.5),
        FoldRunResources(8, 1.0),
        FoldRunResources(8, 1.0, 2),
        FoldRunResources(8, 1.0, 4),
        FoldRunResources(8, 1.0, 8),
    ]


def test_where_cores_are_few_the_gpu_grows_alone(tmp_path: Path) -> None:
    assert give(resources_of(tmp_path, [(4.0, 1.0)], cpu=4, gpu=0.4), 3) == [
        FoldRunResources(4, 0.8),
        FoldRunResources(4, 1.0),
        FoldRunResources(4, 1.0, 2),
    ]


def test_without_gpus_more_cores_mean_fewer_side_by_side(tmp_path: Path) -> None:
    families = resources_of(tmp_path, [(2.0, 0.0), (3.0, 0.0)], cpu=1)
    assert families.can_grow("bert")
    assert give(families, 3) == [FoldRunResources(2, 0), FoldRunResources(3, 0), FoldRunResources(3, 0, 2)]
    assert not families.can_grow("bert")
    assert families.can_grow("another family")


def test_what_was_learned_holds_for_later_runs_and_for_that_family_only(tmp_path: Path) -> None:
    give(resources_of(tmp_path, [(8.0, 0.0)], cpu=2), 1)
    later = resources_of(tmp_path, [(8.0, 0.0)], cpu=1)
    assert later.of("bert") == FoldRunResources(4, 0)
    assert later.of("funnel") == FoldRunResources(1, 0)
    assert resources_of(tmp_path, [(8.0, 0.0)], cpu=6).of("bert") == FoldRunResources(6, 0)


def test_fold_runs_that_ran_out_together_enlarge_their_family_once(tmp_path: Path) -> None:
    families = resources_of(tmp_path, [(8.0, 1.0)], cpu=1, gpu=0.25)
    given = families.of("bert")
    assert [families.ran_out("bert", given) for _ in range(4)] == [FoldRunResources(2, 0.5)] * 4
