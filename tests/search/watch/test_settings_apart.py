from search.watch.settings_apart import settings_apart

TRIO = {
    "a": {"epochs": 2, "loss": "mse", "backbone_lr": 1e-4, "layers": None},
    "b": {"epochs": 2, "loss": "bce", "backbone_lr": 2e-4, "layers": None},
    "c": {"epochs": 3, "loss": "mse", "backbone_lr": 3e-4, "layers": None},
}


def test_candidates_differ_from_what_most_have_and_in_what_all_have_otherwise():
    common, own = settings_apart(TRIO)
    assert common == {"epochs": 2, "loss": "mse"}
    assert own == {
        "a": {"backbone_lr": 1e-4},
        "b": {"loss": "bce", "backbone_lr": 2e-4},
        "c": {"epochs": 3, "backbone_lr": 3e-4},
    }


def test_common_and_own_settings_give_back_all_that_differ():
    common, own = settings_apart(TRIO)
    for name, settings in TRIO.items():
        found = {**common, **own[name]}
        assert found == {key: settings[key] for key in found}
        assert settings.keys() - found.keys() == {"layers"}


def test_a_setting_that_an_older_version_did_not_write_has_its_default():
    assert settings_apart({"old": {"loss": "mse"}, "new": {"loss": "mse", "adversary": "none"}}) == (
        {},
        {"old": {}, "new": {}},
    )


def test_one_candidate_differs_from_nobody():
    assert settings_apart({"a": TRIO["a"]}) == ({}, {"a": {}})
