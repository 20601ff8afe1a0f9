import csv
from pathlib import Path

import pytest

import data_prep.cpc
from data_prep.cpc import read_texts, shipped_texts
from data_prep.errors import InputError
from data_prep.faults import Faults
from data_prep.prepare import prepare

TITLES = """code,title,section,class,subclass,group,main_group
A,HUMAN NECESSITIES,A,,,,
A47,"FURNITURE; ""DOMESTIC"" ARTICLES",A,47,,,
A01,AGRICULTURE,A,01,,,
A01B,"SOIL WORKING, PARTS",A,01,B,,
A01B1/00,Hand tools,A,01,B,1,00
B,OPERATIONS,B,,,,
B29,PLASTICS,B,29,,,
G,PHYSICS,G,,,,
G02,LIGHT,G,02,,,
"""


def test_nine_sections_and_136_classes_ship_with_complete_words():
    texts = shipped_texts()
    assert sorted(code for code in texts if len(code) == 1) == list("ABCDEFGHY")
    assert sum(len(code) == 3 for code in texts) == 136
    assert len(texts) == 145
    assert texts["A01"] == "HUMAN NECESSITIES; AGRICULTURE; FORESTRY; ANIMAL HUSBANDRY; HUNTING; TRAPPING; FISHING"
    assert texts["B67"].endswith("CLOSING OR CLEANING BOTTLES, JARS OR SIMILAR CONTAINERS; LIQUID HANDLING")
    for code, text in texts.items():
        assert text == " ".join(text.split())
        assert text[0].isalpha()
        assert not set(text) & set("{}")
        assert text.startswith(texts[code[0]])


def test_shipped_rows_are_in_order_and_distinct():
    with (Path(data_prep.cpc.__file__).parent / "cpc_titles.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    codes = [row["code"] for row in rows]
    assert codes == sorted(set(codes))
    assert len({row["section_title"] for row in rows}) == 9
    assert all(len({row["section_title"] for row in rows if row["code"][0] == section}) == 1 for section in "ABCDEFGHY")


def test_kaggles_titles_are_read_with_codes_as_strings(tmp_path):
    (tmp_path / "titles.csv").write_text(TITLES)
    faults = Faults()
    texts = read_texts(tmp_path / "titles.csv", faults)
    assert not faults
    assert texts["A01"] == "HUMAN NECESSITIES; AGRICULTURE"
    assert texts["A47"] == 'HUMAN NECESSITIES; FURNITURE; "DOMESTIC" ARTICLES'
    assert texts["G"] == "PHYSICS"
    assert set(texts) == {"A", "A47", "A01", "B", "B29", "G", "G02"}


def test_prepare_uses_the_users_titles(inputs, tmp_path):
    (tmp_path / "titles.csv").write_text(TITLES)
    train, test = inputs.write()
    prepared = prepare(train=train, test=test, out=tmp_path / "out", cpc=tmp_path / "titles.csv", n_folds=4)
    assert set(prepared.train["context_text"].to_pylist()) == {
        'HUMAN NECESSITIES; FURNITURE; "DOMESTIC" ARTICLES',
        "OPERATIONS; PLASTICS",
        "PHYSICS; LIGHT",
    }
    assert set(prepared.manifest.inputs) == {"train", "test", "cpc"}


BAD_TITLES = {
    "no titles": ("code,name\nA,x\n", r"titles\.csv: missing columns: 'title'"),
    "section missing": (TITLES.replace("A,HUMAN NECESSITIES,A,,,,\n", ""), r"section 'A' of class 'A47' has no title"),
    "class missing": (TITLES.replace("B29,", "B30,"), r"train\.csv, column context: must be a known CPC.*'B29'"),
    "no codes": ("code,title\nA01B,x\n", "no CPC section or class"),
    "empty": ("", r"titles\.csv: the file is empty"),
}


@pytest.mark.parametrize("name", BAD_TITLES)
def test_bad_titles_are_described(name, inputs, tmp_path):
    content, message = BAD_TITLES[name]
    (tmp_path / "titles.csv").write_text(content)
    train, test = inputs.write()
    with pytest.raises(InputError, match=message):
        prepare(train=train, test=test, out=tmp_path / "out", cpc=tmp_path / "titles.csv", n_folds=4)
    assert not (tmp_path / "out").exists()
