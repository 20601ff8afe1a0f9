"""What YAML text means: the core schema of version 1.2, nothing twice, nothing endless."""

import math
import time

import pytest

from data_prep.errors import InputError
from data_prep.store.yaml_values import parse_yaml

VALUES = {
    "1:30": "1:30",
    "010": 10,
    "0o10": 8,
    "0x1F": 31,
    "-7": -7,
    "on": "on",
    "No": "No",
    "y": "y",
    "True": True,
    "false": False,
    "2024-01-31": "2024-01-31",
    "2024-01-31 10:00:00": "2024-01-31 10:00:00",
    "1e-5": 1e-5,
    "1.": 1.0,
    ".5": 0.5,
    "-.inf": -math.inf,
    "1_000": "1_000",
    "~": None,
    "": None,
    "'010'": "010",
    '"true"': "true",
    "! 010": 10,
    "=": "=",
    "[1, [two, {three: 3}]]": [1, ["two", {"three": 3}]],
}


@pytest.mark.parametrize("text", VALUES)
def test_plain_text_means_what_yaml_1_2_says(text: str) -> None:
    value = parse_yaml(f"key: {text}\n", where="study.yaml")["key"]
    assert value == VALUES[text]
    assert type(value) is type(VALUES[text])


def test_json_is_read_alike() -> None:
    text = '{\n\t"a": [1, 1e3, null, true],\n\t"b\\/c": "\\u00e9"\n}'
    assert parse_yaml(text, where="task.json") == {"a": [1, 1000.0, None, True], "b/c": "é"}


def test_shared_settings_are_merged_and_may_be_replaced() -> None:
    text = "- &a {x: 1, y: 1}\n- &b {y: 2, z: 2}\n- {<<: [*a, *b], z: 3}\n- *a\n"
    assert parse_yaml(text, where="log.yaml")[2:] == [{"x": 1, "y": 1, "z": 3}, {"x": 1, "y": 1}]


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", ["lines 3 and 4: the key 'c'", "lines 1 and 5: the key 'a' stands twice"]),
        ('{"a": 1, "a": 1}', ["line 1: the key 'a' stands twice"]),
        ("1: a\n01: b\n", ["lines 1 and 2: the key '1'"]),
        ("- &x {a: 1}\n- {<<: *x, <<: *x}\n", ["line 2: the key '<<'"]),
    ],
)
def test_a_key_that_stands_twice_is_named_with_both_lines(text: str, faults: list[str]) -> None:
    with pytest.raises(InputError) as error:
        parse_yaml(text, where="study.yaml")
    assert len(error.value.faults) == len(faults)
    for found, expected in zip(error.value.faults, faults, strict=True):
        assert found.startswith(f"study.yaml: {expected}")


LAUGHS = "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"a: {'9' * 5000}", "line 1: a whole number has at most 18 digits"),
        ("a: " + "[" * 100_000, "line 1: more than 50 levels"),
        ("\n".join("  " * level + "a:" for level in range(100)), "line 50: more than 50 levels"),
        (f"a: &a [1]\n{LAUGHS}", "5,000,000 values"),
        ("a: &a [*a]", r"line 1: \*a needs a value that ends before it"),
        ("a: *b", r"line 1: \*b needs"),
        ("a: &a 1\nb: &a 2", "line 2: &a already names another value"),
        ("a: !!python/name:os.system", "line 1: the tag .* is not read"),
        ("? [1]\n: 2", "line 1: a key must be"),
        ("<<: 3", "line 1: << takes mappings"),
        ("a: 1\n---\nb: 2\n", "line 2: a second document begins"),
        ("a: [1", "not a YAML file"),
        ("a: \x00", "not a YAML file"),
    ],
)
def test_what_no_file_of_settings_needs_is_refused_at_once(text: str, fault: str) -> None:
    start = time.process_time()
    with pytest.raises(InputError, match=rf"study\.yaml: {fault}|study\.yaml: line \d+: .*{fault}"):
        parse_yaml(text, where="study.yaml")
    assert time.process_time() - start < 2
