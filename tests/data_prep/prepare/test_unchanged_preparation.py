"""What the first task's files become never changes: prepared folders and all that refers to them stay valid."""

import hashlib

import pytest

from data_prep.prepare.prepare_folder import prepare
from models.candidate import Candidate
from own_source import ROOT

SAMPLE = ROOT / "data_prep/sample"
PREPARED = {
    "as the demo": (
        {"scheme": "stratified_group", "n_folds": 4, "seed": 42},
        {
            "manifest.json": "c5daa5b52103d3dfae56a59ac0e2ba183fb22d1fcfd458171cf56e466921fb45",
            "test.arrow": "23ac447d9c5e671bc43798febbd4b3b221bdcfc24adda738445b2664b1d3db85",
            "train.arrow": "8c9d1c75749eff3757b9c9729e179db8d923b521ee03783e2c49f17fe2523388",
        },
    ),
    "with a holdout": (
        {"scheme": "group", "n_folds": 3, "seed": 7, "holdout": 0.1},
        {
            "manifest.json": "6b916af35eed85117622de10926556a3acd98a55aa559122ac85991f3b4aa6bf",
            "test.arrow": "23ac447d9c5e671bc43798febbd4b3b221bdcfc24adda738445b2664b1d3db85",
            "train.arrow": "069e5d25d7dc6571f290362dc835cf90c305f1abebebe9045d1dfd319e4408f1",
        },
    ),
}
"""Settings, and the sha256 of each file as version 0.2.0 wrote it."""


@pytest.mark.parametrize("name", PREPARED)
def test_the_samples_prepared_folder_is_what_it_was_byte_for_byte(name, tmp_path):
    settings, expected = PREPARED[name]
    prepare(train=SAMPLE / "train.csv", test=SAMPLE / "test.csv", out=tmp_path / "out", **settings)
    found = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "out").iterdir()}
    assert found == expected


def test_candidate_ids_are_what_they_were():
    assert Candidate().id == "44136fa355b3"
    assert Candidate(recipe="packed", max_length=224, head="attention", loss="bce", epochs=4).id == "526a05d95fba"
