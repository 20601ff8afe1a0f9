import csv
import json
from pathlib import Path

import pytest

import data_prep.cpc
from data_prep.cpc import class_title, code_numbers, read_texts, section_titles, shipped_texts, stripped_text
from data_prep.errors import InputError, InputFaults
from data_prep.prepare.prepare_folder import prepare
from data_prep.prepared import load_prepared

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
    faults = InputFaults()
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
    "two titles": (TITLES + "A47,OTHER,A,A47,,,\n", r"titles\.csv, column code: has two titles; .*line \d+ 'A47'"),
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


CHEMISTRY = [f"C{number:02d}" for number in (*range(1, 15), 21, 22, 23, 25, 30, 40, 99)]
DAMAGED_ELSEWHERE = {
    "A01": "HUMAN NECESSITIES. GRICULTURE; FORESTRY; ANIMAL HUSBANDRY; HUNTING; TRAPPING; FISHING",
    "B42": "PERFORMING OPERATIONS; TRANSPORTING. OOKBINDING; ALBUMS; FILES; SPECIAL PRINTED MATTER",
    "E21": "FIXED CONSTRUCTIONS. ARTH DRILLING; MINING",
    "F15": "MECHANICAL ENGINEERING; LIGHTING; HEATING; WEAPONS; BLASTING. "
    "LUID-PRESSURE ACTUATORS; HYDRAULICS OR PNEUMATICS IN GENERAL",
    "F27": "MECHANICAL ENGINEERING; LIGHTING; HEATING; WEAPONS; BLASTING. URNACES; KILNS; OVENS; RETORTS",
}


def test_the_copied_table_has_26_damaged_classes():
    texts = shipped_texts()
    sections = section_titles(texts)
    damaged = {}
    for code in sorted(code for code in texts if len(code) == 3):
        stripped = stripped_text(code, texts[code], sections)
        if stripped != f"{sections[code[0]]}. {class_title(code, texts[code], sections)}":
            damaged[code] = stripped
    assert len(damaged) == 26
    assert sorted(damaged) == sorted([*CHEMISTRY, *DAMAGED_ELSEWHERE])
    assert {code: damaged[code] for code in DAMAGED_ELSEWHERE} == DAMAGED_ELSEWHERE
    assert damaged["C07"] == "HEMISTRY; METALLURGY. ORGANIC CHEMISTRY"
    assert damaged["C30"] == "HEMISTRY; METALLURGY. RYSTAL GROWTH"


def test_class_titles_are_those_of_the_shipped_table():
    texts = shipped_texts()
    with (Path(data_prep.cpc.__file__).parent / "cpc_titles.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 136
    for row in rows:
        assert class_title(row["code"], texts[row["code"]], section_titles(texts)) == row["class_title"]
    assert class_title("G", texts["G"], section_titles(texts)) == "PHYSICS"
    assert stripped_text("C", texts["C"], section_titles(texts)) == "HEMISTRY; METALLURGY"


@pytest.mark.parametrize("sections", [{}, {"A": "HUMAN"}, {"A": "OTHER TITLE"}])
def test_a_text_that_does_not_begin_with_its_section_is_refused(sections):
    with pytest.raises(InputError, match=r"'A01' must begin with the title of its section.*prepare the data again"):
        class_title("A01", "HUMAN NECESSITIES; AGRICULTURE", sections)


def test_codes_are_numbered_by_section_and_class():
    assert [code_numbers(code) for code in ("A01", "H05", "Y10", "G")] == [(0, 1), (7, 5), (8, 10), (6, 0)]
    for wrong in ("", "I01", "A1", "A01B", "Aé1", "01"):
        with pytest.raises(InputError, match="not a CPC section or class"):
            code_numbers(wrong)


def test_the_users_section_titles_are_kept(inputs, tmp_path):
    (tmp_path / "titles.csv").write_text(TITLES.replace("A,HUMAN NECESSITIES", 'A,"NEEDS; WANTS"'))
    train, test = inputs.write()
    prepared = prepare(train=train, test=test, out=tmp_path / "out", cpc=tmp_path / "titles.csv", n_folds=4)
    assert prepared.section_titles == {"A": "NEEDS; WANTS", "B": "OPERATIONS", "G": "PHYSICS"}
    pairs = set(zip(*(prepared.train[name].to_pylist() for name in ("context", "context_text")), strict=True))
    assert {class_title(code, text, prepared.section_titles) for code, text in pairs} == {
        'FURNITURE; "DOMESTIC" ARTICLES',
        "PLASTICS",
        "LIGHT",
    }


def forget_section_titles(folder):
    """Make a manifest that an earlier version would have written."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["section_titles"]
    manifest.pop("seal", None)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_folders_of_earlier_versions_still_load_and_stay_the_same_preparation(inputs, tmp_path):
    train, test = inputs.write()
    settings = {"train": train, "test": test, "out": tmp_path / "out", "n_folds": 4}
    first = prepare(**settings)
    forget_section_titles(tmp_path / "out")
    again = prepare(**settings)
    assert again.manifest.section_titles is None
    assert again.manifest.data_hash == first.manifest.data_hash
    assert again.section_titles == first.section_titles == section_titles(shipped_texts())


def test_titles_that_an_earlier_version_did_not_keep_are_not_guessed(inputs, tmp_path):
    (tmp_path / "titles.csv").write_text(TITLES)
    train, test = inputs.write()
    prepare(train=train, test=test, out=tmp_path / "out", cpc=tmp_path / "titles.csv", n_folds=4)
    forget_section_titles(tmp_path / "out")
    with pytest.raises(InputError, match=r"with your own titles.*prepare the data again"):
        _ = load_prepared(tmp_path / "out").section_titles
