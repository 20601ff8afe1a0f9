import subprocess
import sys

import pytest

from models.candidate import Candidate
from models.catalogue import catalogue
from models.part_options import PART_OPTIONS
from models.parts.adversary import ADVERSARIES
from models.parts.heads import HEADS
from models.parts.losses import LOSSES
from models.text.recipes import RECIPES
from models.text.truncation import HEAD_SHARES


@pytest.mark.parametrize(
    ("kind", "registry"),
    [
        ("recipe", RECIPES),
        ("truncation", HEAD_SHARES),
        ("head", HEADS),
        ("loss", LOSSES),
        ("adversary", ADVERSARIES),
    ],
)
def test_what_can_be_chosen_is_what_can_be_built(kind, registry):
    assert list(PART_OPTIONS[kind]) == list(registry)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in PART_OPTIONS.items() for name in names])
def test_settings_of_a_part_are_fields_of_the_candidate(kind, name):
    assert set(PART_OPTIONS[kind][name].settings) <= set(Candidate.model_fields)


def test_every_entry_says_what_it_is_in_one_line():
    for entries in catalogue().values():
        for name, entry in entries.items():
            assert 5 < len(entry.summary) < 200, name
            assert "\n" not in entry.summary


def test_candidates_and_their_catalogue_load_without_the_libraries_that_train():
    heavy = ("torch", "transformers", "numpy", "pyarrow", "pandas", "scipy", "yaml")
    code = f"import sys, models.candidate, models.catalogue; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
