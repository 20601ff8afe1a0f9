"""The token is made for its owner only, and a warning says where it would travel in clear."""

import os
import stat
from pathlib import Path

import pytest

from search.cluster.auth_token import clear_text_warning, make_token, read_token


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "environ", {**os.environ, "HOME": str(tmp_path)})
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        os.environ.pop(name, None)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_once_for_its_owner_only(home: Path) -> None:
    file = home / ".ray" / "auth_token"
    before = os.umask(0)
    try:
        make_token()
    finally:
        os.umask(before)
    token = read_token()
    assert len(token) == 64
    assert (mode(file.parent), mode(file)) == (0o700, 0o600)
    assert os.environ["RAY_AUTH_TOKEN_PATH"] == str(file), "Ray finds it, whatever it takes for the home of this user"
    file.chmod(0o644)
    make_token()
    assert (mode(file), read_token()) == (0o600, token)


@pytest.mark.parametrize("given", [{"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "given"}])
def test_no_token_is_made_where_none_is_wanted_or_one_is_given(home: Path, given: dict[str, str]) -> None:
    os.environ.update(given)
    make_token()
    assert list(home.iterdir()) == []
    assert read_token() == given.get("RAY_AUTH_TOKEN", "")


def test_without_a_home_the_token_stays_in_the_environment(home: Path) -> None:
    (home / "file").touch()
    os.environ["HOME"] = str(home / "file")
    make_token()
    assert len(read_token()) == 64
    assert os.environ["RAY_AUTH_TOKEN"] == read_token()


@pytest.mark.parametrize(
    ("address", "warns"),
    [
        ("http://127.0.0.1:8265", False),
        ("http://localhost:8265", False),
        ("127.0.0.2:6379", False),
        ("https://192.0.2.1", False),
        ("http://192.0.2.1:8265", True),
        ("192.0.2.1:6379", True),
        ("http://no-such-host.invalid:8265", True),
    ],
)
def test_a_token_that_leaves_this_machine_in_clear_is_warned_of(home: Path, address: str, warns: bool) -> None:
    assert not clear_text_warning(address), "there is no token"
    os.environ["RAY_AUTH_TOKEN"] = "secret"
    warning = clear_text_warning(address)
    assert ("Ray encrypts nothing" in warning) == warns
    assert "secret" not in warning
