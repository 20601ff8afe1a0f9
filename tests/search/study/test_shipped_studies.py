"""The shipped studies: every candidate that they can sample is valid, and its model can be built."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from data_prep.task import PPPM
from memo import MEMO, read_memo
from models.backbones.families import FAMILIES
from models.backbones.tiny_checkpoints import make_tiny
from models.candidate import Candidate
from models.text.batches import Batch
from models.text.recipes import RECIPES
from search.study.read_candidates import read_candidates
from search.study.read_space import read_space
from search.study.read_study import read_study
from small_models import learner_of

STUDIES = sorted(path for path in (Path(__file__).parents[3] / "studies").glob("*.yaml") if path.name != MEMO.name)


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    """Return a folder with a tiny random checkpoint for each hub name."""
    folder = tmp_path_factory.mktemp("backbones")
    make_tiny("all", folder)
    return str(folder)


def test_all_studies_are_shipped():
    memo = {f"memo-{split.lower()}" for split in read_memo()["splits"]}
    assert {path.stem for path in STUDIES} == {"demo", "pppm", "pppm-cpu", "pppm-grid"} | memo


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_candidate_a_study_can_sample_is_valid(path):
    study = read_study(path)
    explicit = read_candidates(study.candidates)
    assert explicit
    assert len({candidate.id for candidate in explicit.values()}) == len(explicit)
    if not study.space:
        return
    space = read_space(study.space)
    corners = space.corners()
    assert len(corners) >= 100
    tried: dict[str, set[object]] = {}
    for settings in corners:
        candidate = Candidate.model_validate(settings)
        RECIPES[candidate.recipe].layout(PPPM, candidate)
        for name, value in settings.items():
            tried.setdefault(name, set()).add(value)
    for dimension in space.dimensions:
        assert tried[dimension.name] == set(dimension.domain.corners()), dimension.name


def test_every_model_of_the_cluster_study_can_be_built_and_trained(backbones):
    study = read_study(next(path for path in STUDIES if path.stem == "pppm"))
    whole = read_space(study.space)
    space = {dimension.name: dimension.domain.corners() for dimension in whole.dimensions}
    assert set(space["backbone"]) <= {family.hub for family in FAMILIES.values()}
    assert len(space["backbone"]) >= 5
    built = 0
    for number, (backbone, head, loss) in enumerate(itertools.product(space["backbone"], space["head"], space["loss"])):
        values = {name: corners[number % len(corners)] for name, corners in space.items()}
        values |= {"backbone": backbone, "head": head, "loss": loss}
        candidate = Candidate.model_validate(whole.settings(lambda dimension, values=values: values[dimension.name]))
        learner = learner_of(candidate, 60, folder=backbones)
        ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(number))
        mask = torch.ones_like(ids)
        mask[0, 8:] = 0
        outputs = learner.scorer(Batch(ids, mask, np.arange(3), None))
        learner.gradients.loss(outputs, torch.tensor([0.0, 0.5, 1.0])).backward()
        gradients = [parameter.grad for parameter in learner.trained]
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients), candidate
        assert torch.isfinite(outputs).all()
        built += 1
    assert built == len(space["backbone"]) * len(space["head"]) * len(space["loss"])


def test_every_backbone_with_resources_of_its_own_is_one_that_the_study_uses():
    for path in STUDIES:
        study = read_study(path)
        used = {candidate.backbone for candidate in read_candidates(study.candidates).values()}
        used |= set(map(str, np.atleast_1d(study.space.get("backbone", []))))
        assert set(study.resources.backbones) <= used, path
