"""What each recipe and option makes of a few rows, written out by hand, in two kinds of tokenizer."""

import copy
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from data_prep.errors import InputError
from data_prep.task import PPPM, Task
from models.candidate import Candidate
from models.part_options import RECIPE_OPTIONS
from models.text.fold_pools import load_fold_pools
from models.text.recipes import RECIPES

SENTENCES = Task(name="sentences", text_columns=("first", "second"), score_range=(0.0, 5.0))
ANSWERS = Task(name="answers", text_columns=("question", "answer", "subject"), score_range=(0.0, 1.0))
REVIEWS = Task(name="reviews", text_columns=("review",), score_range=(1.0, 5.0))
FULL = "HUMAN NEEDS; ARMS; HYGIENE"
ORDERED = {"shuffle_siblings": False}
SECTION = {"sibling_scope": "section"}

TEXTS = [
    # recipe, options, row, expected: "^" start, "|" separator, "/" joint of two texts, "$" end, "*" [TAR], "?" mask
    ("pair", {}, 0, "^valve pump|rotor$"),
    ("pair_context", {}, 0, f"^valve pump|rotor|{FULL}$"),
    ("pair_context", {}, 2, "^sensor|resin|HEAT; LIGHT; HOT CELLS$"),
    ("pair_context", {"context": "class"}, 0, "^valve pump|rotor|ARMS; HYGIENE$"),
    ("pair_context", {"context": "class"}, 2, "^sensor|resin|HOT CELLS$"),
    ("pair_context", {"context": "code"}, 0, "^valve pump|rotor|A61$"),
    ("pair_context", {"context": "stripped"}, 0, "^valve pump|rotor|HUMAN NEEDS. RMS; HYGIENE$"),
    ("pair_context", {"context": "stripped"}, 2, "^sensor|resin|EAT; LIGHT. OT CELLS$"),
    ("pair_context", {"context": "stripped"}, 4, "^valve pump|gear|HUMAN NEEDS. CHAIRS$"),
    ("context_first", {}, 1, f"^{FULL}|valve pump|blade$"),
    ("context_first", {"context": "code"}, 1, "^A61|valve pump|blade$"),
    ("two_segments", {}, 1, f"^{FULL}|valve pump/blade$"),
    ("two_segments", {"context": "class"}, 2, "^HOT CELLS|sensor/resin$"),
    ("code_embedding", {}, 1, "^valve pump/blade$"),
    ("grouped", ORDERED, 0, f"^valve pump|rotor|{FULL}|blade|lens film$"),
    ("grouped", ORDERED, 1, f"^valve pump|blade|{FULL}|rotor|lens film$"),
    ("grouped", ORDERED, 2, "^sensor|resin|HEAT; LIGHT; HOT CELLS$"),
    ("grouped", ORDERED, 4, "^valve pump|gear|HUMAN NEEDS; CHAIRS$"),
    ("grouped", {**ORDERED, **SECTION}, 4, "^valve pump|gear|HUMAN NEEDS; CHAIRS|rotor|blade|lens film$"),
    ("grouped", {**ORDERED, "max_siblings": 1}, 3, f"^valve pump|lens film|{FULL}|rotor$"),
    ("grouped", {**ORDERED, "own_target": "kept"}, 1, f"^valve pump|blade|{FULL}|rotor|blade|lens film$"),
    ("grouped", {**ORDERED, "own_target": "kept", "max_siblings": 1}, 1, f"^valve pump|blade|{FULL}|rotor$"),
    ("grouped", {**ORDERED, "context": "code"}, 0, "^valve pump|rotor|A61|blade|lens film$"),
    ("marked", ORDERED, 0, f"^valve pump|{FULL}|*rotor*|blade|lens film$"),
    ("marked", ORDERED, 1, f"^valve pump|{FULL}|rotor|*blade*|lens film$"),
    ("marked", ORDERED, 2, "^sensor|HEAT; LIGHT; HOT CELLS|*resin*$"),
    ("marked", {**ORDERED, "max_siblings": 1}, 3, f"^valve pump|{FULL}|rotor|*lens film*$"),
    ("marked", {**ORDERED, **SECTION}, 4, "^valve pump|HUMAN NEEDS; CHAIRS|rotor|blade|lens film|*gear*$"),
    ("packed", {**ORDERED, "context": "code"}, 0, "^valve pump|A61|rotor|blade|lens film$"),
    ("prompt", {}, 0, f"^in the field of {FULL} the phrase valve pump means? rotor$"),
    ("prompt", {"context": "class"}, 2, "^in the field of HOT CELLS the phrase sensor means? resin$"),
    ("texts", {}, 0, f"^valve pump|rotor|{FULL}$"),
    ("texts", {"context": "code"}, 0, "^valve pump|rotor|A61$"),
]  # fmt: skip
FIRST = {recipe: entry for recipe, *entry in reversed(TEXTS)}
SIGNS = {
    "wordpiece": {"^": "[CLS] ", "|": " [SEP] ", "/": " [SEP] ", "$": " [SEP]", "*": " [TAR] ", "?": " [MASK]"},
    "byte_level": {"^": "<s>", "|": "</s>", "/": "</s></s>", "$": "</s>", "*": "[TAR]", "?": "<mask>"},
}


def written(text, signs, tokenizer, *, added=()):
    """Return the ids that the tokenizer itself gives to a text with its special and its added tokens spelled out."""
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(list(added), special_tokens=True)
    return grown("".join(signs.get(letter, letter) for letter in text), add_special_tokens=False)["input_ids"]


@pytest.fixture(params=sorted(SIGNS))
def kind(request):
    return request.param


@pytest.fixture
def load(kind, few_rows, request, tmp_path):
    """Return a function that gives pools and tokenizer."""
    tokenizer = request.getfixturevalue(kind)

    def pools(recipe="pair_context", *, data=few_rows, **options):
        candidate = Candidate(**{"recipe": recipe, "max_length": 400, **options})
        return load_fold_pools(data, 0, candidate=candidate, tokenizer=tokenizer, cache=tmp_path), tokenizer

    return pools


def ids_of(encoded, text):
    return encoded.ids[encoded.offsets[text] : encoded.offsets[text + 1]].tolist()


@pytest.mark.parametrize("entry", TEXTS, ids=str)
def test_texts_written_by_hand(entry, load, kind):
    recipe, options, row, expected = entry
    pools, tokenizer = load(recipe, **options)
    encoded = pools.train.encode()
    assert ids_of(encoded, row) == written(expected, SIGNS[kind], tokenizer, added=["[TAR]"])
    assert encoded.lengths.max() <= 400


def test_labels_stand_ahead_of_the_texts_of_a_task(few_rows, load, kind):
    task = few_rows.task.model_copy(update={"text_labels": ("old", "new", "in")})
    data = replace(few_rows, manifest=few_rows.manifest.model_copy(update={"task": task}))
    pools, tokenizer = load("texts", data=data)
    expected = written(f"^old valve pump new rotor in {FULL}$", SIGNS[kind], tokenizer)
    assert ids_of(pools.train.encode(), 0) == expected


def test_every_recipe_is_written_out():
    assert {recipe for recipe, *_ in TEXTS} == set(RECIPES)


@pytest.mark.parametrize("recipe", [name for name, option in RECIPE_OPTIONS.items() if "separator" in option.settings])
def test_a_literal_separator_is_one_new_token(recipe, load, kind):
    options, row, expected = FIRST[recipe]
    pools, tokenizer = load(recipe, separator="[s]", **options)
    signs = {**SIGNS[kind], "|": "[s]"}
    assert ids_of(pools.train.encode(), row) == written(expected, signs, tokenizer, added=["[s]", "[TAR]"])
    n_tokens = int(pools.vocabulary.max()) + 1
    assert n_tokens == len(tokenizer) + (2 if recipe == "marked" else 1)
    assert set(range(len(tokenizer), n_tokens)) <= set(pools.vocabulary.tolist())


def test_a_literal_that_the_tokenizer_holds_is_that_token(load, kind):
    known = {"wordpiece": "[MASK]", "byte_level": "<mask>"}[kind]
    pools, tokenizer = load("pair", separator=known)
    signs = {**SIGNS[kind], "|": known}
    assert ids_of(pools.train.encode(), 0) == written("^valve pump|rotor$", signs, tokenizer)
    assert pools.vocabulary.max() < len(tokenizer)


def test_a_spelled_separator_is_ordinary_text(load, kind):
    pools, tokenizer = load("grouped", separator="[sep]", spell_separator=True, **ORDERED)
    signs = {**SIGNS[kind], "|": "[sep]"}
    expected = written(f"^valve pump|rotor|{FULL}|blade|lens film$", signs, tokenizer)
    assert ids_of(pools.train.encode(), 0) == expected
    assert pools.vocabulary.max() < len(tokenizer)
    assert len(tokenizer("[sep]", add_special_tokens=False)["input_ids"]) > 1


def test_the_memos_literal_is_a_separator_to_bert_and_text_to_roberta(load, kind):
    pools, tokenizer = load("pair", separator="[SEP]", spell_separator=True)
    line = ids_of(pools.train.encode(), 0)
    assert line == written("^valve pump[SEP]rotor$", SIGNS[kind], tokenizer)
    assert (line.count(tokenizer.sep_token_id) == 2) == (kind == "wordpiece")


@pytest.mark.parametrize(
    ("recipe", "first"), [("two_segments", f"^{FULL}|valve pump/"), ("code_embedding", "^valve pump/")]
)
def test_segments_change_at_the_second_text(recipe, first, load, kind):
    pools, tokenizer = load(recipe)
    batch = pools.train.encode().batch(np.array([1, 2]))
    n_first = len(written(first, SIGNS[kind], tokenizer))
    length = int(batch.attention_mask[0].sum())
    assert batch.segments.shape == batch.input_ids.shape
    assert batch.segments[0].tolist() == [0] * n_first + [1] * (length - n_first) + [0] * (
        len(batch.segments[0]) - length
    )
    assert (batch.segments * (1 - batch.attention_mask)).sum() == 0
    assert load(recipe, segment_ids=False)[0].train.encode().batch(np.array([1])).segments is None


def test_segments_are_those_of_the_tokenizers_own_pairs(load, kind):
    if kind != "wordpiece":
        pytest.skip("byte-level tokenizers tell no segments")
    pools, tokenizer = load("code_embedding")
    own = tokenizer("valve pump", "lens film")
    batch = pools.train.encode().batch(np.array([3]))
    assert batch.input_ids[0].tolist() == own["input_ids"]
    assert batch.segments[0].tolist() == own["token_type_ids"]


@pytest.mark.parametrize("recipe", RECIPES)
def test_batches_number_anchors_and_carry_codes_where_the_recipe_has_them(recipe, load):
    pools, _ = load(recipe)
    encoded = pools.train.encode()
    batch = encoded.batch(np.arange(len(encoded)))
    anchors = [pools.train.table["anchor"][row].as_py() for row in batch.rows]
    assert len(set(zip(anchors, batch.groups.tolist(), strict=True))) == len(set(anchors)) == 2
    if not RECIPES[recipe].codes:
        assert batch.codes is None
        return
    assert batch.codes.tolist() == [[0, 61], [0, 61], [7, 1], [0, 61], [0, 47]]


def test_prompt_rows_are_scored_from_the_mask(load, kind):
    pools, tokenizer = load("prompt")
    batch = pools.validation.encode().batch(np.array([1, 0]))
    for row, (text, start, length) in enumerate(batch.spans.tolist()):
        assert (text, length) == (row, 1)
        assert batch.input_ids[text, start] == tokenizer.mask_token_id
        assert (batch.input_ids[text] == tokenizer.mask_token_id).sum() == 1
    assert batch.rows.tolist() == [1, 0]


def test_prompt_needs_a_mask_token(few_rows, tmp_path):
    from transformers import ByT5Tokenizer

    with pytest.raises(InputError, match="mask token, which ByT5Tokenizer lacks"):
        load_fold_pools(few_rows, 0, candidate=Candidate(recipe="prompt"), tokenizer=ByT5Tokenizer(), cache=tmp_path)


@pytest.mark.parametrize("recipe", [name for name, option in RECIPE_OPTIONS.items() if "separator" in option.settings])
def test_a_limit_without_room_for_phrases_is_refused(recipe, load):
    with pytest.raises(InputError, match="max_length=8 leaves no room for phrases"):
        load(recipe, max_length=8, separator="; and then there is ", spell_separator=True)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("task", [PPPM, ANSWERS], ids=lambda task: task.name)
def test_layouts_name_columns_of_the_prepared_table(name, task):
    if RECIPES[name].codes and task.cpc_column is None:
        pytest.skip("needs CPC codes")
    columns = {*task.text_columns, *(["context_text"] if task.cpc_column else [])}
    layout = RECIPES[name].layout(task, Candidate())
    assert set(layout.yielding) < set(layout.columns) <= columns
    named = {*layout.columns, *([layout.siblings.column] if layout.siblings else [])}
    assert set(task.text_columns[:2]) <= named
    if layout.siblings:
        assert layout.siblings.column == task.text_columns[1]
        assert set(layout.siblings.key) <= columns - {layout.siblings.column}


def test_pppm_reads_titles_and_groups_by_code():
    assert RECIPES["pair_context"].layout(PPPM, Candidate()).columns == ("anchor", "target", "context_text")
    siblings = RECIPES["grouped"].layout(PPPM, Candidate()).siblings
    assert siblings is not None
    assert siblings.key == ("anchor", "context")


def test_without_codes_the_third_text_is_the_context():
    assert RECIPES["grouped"].layout(ANSWERS, Candidate()).columns == ("question", "answer", "subject")


@pytest.mark.parametrize("name", sorted(set(RECIPES) - {"pair", "code_embedding", "texts"}))
def test_a_task_without_context_is_refused(name):
    with pytest.raises(InputError, match=r"neither cpc_column nor a third text column.*use recipe pair"):
        RECIPES[name].layout(SENTENCES, Candidate())
    with pytest.raises(InputError, match="use recipe pair"):
        RECIPES[name].layout(REVIEWS, Candidate())


def test_texts_reads_whatever_texts_a_task_has():
    for task in (REVIEWS, SENTENCES, ANSWERS):
        assert RECIPES["texts"].layout(task, Candidate(recipe="texts")).columns == task.text_columns


@pytest.mark.parametrize("form", ["class", "code", "stripped"])
@pytest.mark.parametrize("name", [name for name, option in RECIPE_OPTIONS.items() if "context" in option.settings])
def test_forms_of_the_context_need_codes(name, form):
    with pytest.raises(InputError, match=rf"context={form} needs CPC codes.*'answers' has no cpc_column"):
        RECIPES[name].layout(ANSWERS, Candidate(recipe=name, context=form))


def test_sections_and_embeddings_need_codes():
    with pytest.raises(InputError, match=r"sibling_scope=section needs CPC codes"):
        RECIPES["grouped"].layout(ANSWERS, Candidate(recipe="grouped", sibling_scope="section"))
    with pytest.raises(InputError, match=r"code_embedding needs CPC codes.*use recipe pair"):
        RECIPES["code_embedding"].layout(SENTENCES, Candidate())


@pytest.mark.parametrize(
    ("recipe", "option"),
    [
        ("pair", {"max_siblings": 3}),
        ("pair", {"context": "code"}),
        ("pair_context", {"segment_ids": False}),
        ("pair_context", {"prediction_shuffles": 2}),
        ("prompt", {"separator": "[s]"}),
        ("code_embedding", {"separator": "[s]"}),
        ("packed", {"own_target": "kept"}),
        ("packed", {"sibling_scope": "section"}),
        ("marked", {"own_target": "kept"}),
    ],
)
def test_an_option_that_a_recipe_does_not_heed_is_refused(recipe, option):
    with pytest.raises(ValueError, match=f"{next(iter(option))} has no effect with recipe='{recipe}'"):
        Candidate(recipe=recipe, **option)


def test_a_mean_over_orders_needs_more_than_one_order():
    assert Candidate(recipe="grouped", prediction_shuffles=3).prediction_shuffles == 3
    with pytest.raises(ValueError, match="prediction_shuffles has no effect while shuffle_siblings is False"):
        Candidate(recipe="grouped", prediction_shuffles=3, shuffle_siblings=False)


def test_pair_takes_what_there_is():
    assert RECIPES["pair"].layout(SENTENCES, Candidate()).columns == ("first", "second")
    assert RECIPES["pair"].layout(REVIEWS, Candidate()).columns == ("review",)


@pytest.mark.parametrize("recipe", ["pair", "texts", "packed", "marked"])
def test_an_empty_text_leaves_its_place_empty(recipe, few_rows, load):
    place = few_rows.train.column_names.index("target")
    empty = pa.array(["", *few_rows.train["target"].to_pylist()[1:]])
    data = replace(few_rows, train=few_rows.train.set_column(place, "target", empty))
    encoded = load(recipe, data=data)[0].train.encode()
    assert len(encoded.offsets) > 1
    assert (np.diff(encoded.offsets) > 0).all()
