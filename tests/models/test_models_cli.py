"""The verbs `list`, `explain` and `tiny`; `train` is tested with training."""

import csv
import io
import json

import numpy as np
import pytest
from transformers import AutoTokenizer
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
    assert "backbone, recipe, truncation, head, loss" in str(error)


def test_list_gives_another_program_the_same():
    found = json.loads(run("list", "--json").output)
    expected = [(kind, name, entry.summary) for kind, entries in catalogue().items() for name, entry in entries.items()]
    assert [(row["kind"], row["name"], row["summary"]) for row in found] == expected
    rows = list(csv.DictReader(io.StringIO(run("list", "--kind", "loss", "--csv", "-").output)))
    assert [row["name"] for row in rows] == list(catalogue()["loss"])


def test_tiny_says_how_to_use_what_it_made_and_explain_uses_it(tmp_path):
    folder = tmp_path / "google" / "electra-large-discriminator"
    made = run("tiny", "--family", "electra-large-discriminator", "--out", folder)
    assert f"backbone: {folder}" in made.output
    told = run("explain", "--candidate", "exp029", "--backbones", tmp_path).output
    for part in ("embeddings", "head", "trained", "5e-06", "keep best", "split B", "cv 0.825", "lb 0.8283"):
        assert part in told, part


def test_tokens_shows_percentiles_and_what_each_max_length_cuts(tiny_bert, prepared_tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path))
    shown = run("tokens", prepared_tiny.path, "--backbone", tiny_bert).output
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    rows = [*prepared_tiny.train.to_pylist(), *prepared_tiny.test.to_pylist()]
    columns = ("anchor", "target", "context_text")
    whole = [sum(len(tokenizer.tokenize(row[name])) for name in columns) + 4 for row in rows]
    lines = {line.split("│")[1].strip(): line for line in shown.splitlines() if line.count("│") > 5}
    for share, number in zip((50, 90, 99, 100), lines["all, with special tokens"].split("│")[2:6], strict=True):
        assert int(number) == round(float(np.percentile(whole, share)))
    cut = np.mean([length > 32 for length in whole])
    assert f"{cut:.1%}" in lines["rows"]
    assert set(lines) >= {*columns, "rows"}
    found = json.loads(run("tokens", prepared_tiny.path, "--backbone", tiny_bert, "--json").output)
    assert found["texts"][-1]["99 %"] == pytest.approx(float(np.percentile(whole, 99)))
    assert found["cuts"][0] == {
        "max_length": 32,
        "rows": pytest.approx(cut),
        "tokens": pytest.approx(sum(max(length - 32, 0) for length in whole) / sum(whole)),
    }
