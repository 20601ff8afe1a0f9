import re

import pytest

from models.backbones.families import FAMILIES
from models.candidate import Candidate
from models.catalogue import catalogue
from models.parts.adversary import ADVERSARIES
from models.parts.head_output import SampledDropout
from models.parts.heads import HEADS
from models.parts.losses import LOSSES
from models.parts.weight_average import WeightAverage
from models.parts.weight_regularizers import Mixout, reinitialize_layers
from models.text.recipes import RECIPES


@pytest.mark.parametrize(
    ("kind", "registry"),
    [("backbone", FAMILIES), ("recipe", RECIPES), ("head", HEADS), ("loss", LOSSES), ("adversary", ADVERSARIES)],
)
def test_lists_all_of_a_registry(kind, registry):
    assert [entry.name for entry in catalogue()[kind]] == list(registry)


def test_every_entry_says_what_it_is_in_one_line():
    for entries in catalogue().values():
        for entry in entries:
            assert 5 < len(entry.summary) < 200, entry
            assert "\n" not in entry.summary


def test_every_head_loss_and_regulariser_names_its_source():
    adversaries = [kind for name, kind in ADVERSARIES.items() if name != "none"]
    regularisers = [*adversaries, Mixout, reinitialize_layers, WeightAverage, SampledDropout]
    for kind in (*HEADS.values(), *LOSSES.values(), *regularisers):
        assert re.search(r"\b(18|19|20)\d\d\b", vars(kind).get("__doc__") or kind.__doc__), kind


def test_settings_named_are_settings_of_a_candidate():
    kinds = catalogue()
    for entry in kinds["regulariser"] + kinds["means"]:
        assert entry.name in Candidate.model_fields
    for entries in kinds.values():
        for entry in entries:
            assert set(entry.options) <= set(Candidate.model_fields), entry
