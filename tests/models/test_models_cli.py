"""The verbs `list`, `explain` and `tiny`; `train` is tested with training."""

from typer.testing import CliRunner

from data_prep.errors import InputError
from models.__main__ import app
from models.catalogue import catalogue


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_shows_everything_in_a_line_each():
    lines = run("list").output.splitlines()
    for kind, entries in catalogue().items():
        assert lines.count(kind) == 1
        for name, entry in entries.items():
            assert any(line.split()[:1] == [name] and entry.summary in line for line in lines), name


def test_list_can_show_one_kind():
    output = run("list", "--kind", "loss").output
    assert "gaussian_nll" in output
    assert "lstm" not in output
    error = run("list", "--kind", "colour").exception
    assert isinstance(error, InputError)
    assert "backbone, recipe, head, loss" in str(error)


def test_tiny_says_how_to_use_what_it_made_and_explain_uses_it(tmp_path):
    folder = tmp_path / "google" / "electra-large-discriminator"
    made = run("tiny", "--family", "electra-large-discriminator", "--out", folder)
    assert f"backbone: {folder}" in made.output
    told = run("explain", "--candidate", "exp029", "--backbones", tmp_path).output
    for part in ("embeddings", "head", "trained", "5e-06", "keep best", "split B", "cv 0.825", "lb 0.8283"):
        assert part in told, part
