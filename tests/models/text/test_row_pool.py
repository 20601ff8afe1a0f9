import copy
import dataclasses
import itertools
import random

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from data_prep.task import Task
from models.candidate import Candidate
from models.text.fold_pools import load_fold_pools
from models.text.recipes import RECIPES

COLUMNS = ("anchor", "target", "context_text")
POOLS = ("train", "validation", "test", "holdout")


@pytest.fixture(scope="session")
def tokenizer(tiny_bert):
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def pools_of(prepared_tiny, tokenizer, tmp_path):
    def load(recipe, *, max_length=500, seed=1, fold=1, data=prepared_tiny, tokenizer=tokenizer, **options):
        candidate = Candidate(recipe=recipe, max_length=max_length, seed=seed, **options)
        return load_fold_pools(data, fold, candidate=candidate, tokenizer=tokenizer, cache=tmp_path)

    return load


def lines(encoded):
    return [
        encoded.ids[start:end].tolist() for start, end in zip(encoded.offsets[:-1], encoded.offsets[1:], strict=True)
    ]


def texts(encoded, tokenizer):
    """Return each row's phrases, read back from its ids."""
    return [tokenizer.decode(line[1:-1]).split(" [SEP] ") for line in lines(encoded)]


def siblings_of(rows, row):
    """Return the other targets of a row's anchor and context in its pool."""
    table = rows.table.to_pylist()
    own = table[row]
    same = [other for other in table if (other["anchor"], other["context"]) == (own["anchor"], own["context"])]
    return {other["target"] for other in same} - {own["target"]}


def test_pools_hold_the_rows_they_promise(pools_of, prepared_tiny):
    pools = pools_of("pair", fold=1)
    fold = np.array(prepared_tiny.train["fold"])
    ids = np.array(prepared_tiny.train["id"])
    for pool, expected in (("train", (fold != 1) & (fold != -1)), ("validation", fold == 1), ("holdout", fold == -1)):
        assert expected.any()
        assert getattr(pools, pool).table["id"].to_pylist() == ids[expected].tolist()
    assert pools.test.table.equals(prepared_tiny.test)
    assert pools.test.targets is None
    np.testing.assert_array_equal(pools.validation.targets, np.array(prepared_tiny.train["score"])[fold == 1])


def test_a_split_without_holdout_has_no_such_pool(pools_of, prepared_tiny):
    rest = prepared_tiny.train.filter(pa.compute.not_equal(prepared_tiny.train["fold"], -1))
    assert pools_of("pair", data=dataclasses.replace(prepared_tiny, train=rest)).holdout is None


@pytest.mark.parametrize("recipe", sorted(set(RECIPES) - {"marked", "prompt"}))
@pytest.mark.parametrize("pool", POOLS)
def test_ids_equal_those_of_the_joined_text(recipe, pool, pools_of, tokenizer):
    rows = getattr(pools_of(recipe), pool)
    encoded = rows.encode(0)
    found = lines(encoded)
    columns = rows.layout.columns
    table = rows.table.to_pylist()
    heads = [table[encoded.batch(np.array([text])).rows[0]] for text in range(len(encoded))]
    assert encoded.n_rows == len(rows) > 20
    for line, phrases, row in zip(found, texts(encoded, tokenizer), heads, strict=True):
        assert phrases[: len(columns)] == [row[name] for name in columns]
        assert line == tokenizer(" [SEP] ".join(phrases))["input_ids"]


@pytest.mark.parametrize("pool", POOLS)
def test_grouped_gives_all_siblings_of_the_pool_but_never_the_row_itself(pool, pools_of, tokenizer):
    rows = getattr(pools_of("grouped"), pool)
    for row, phrases in enumerate(texts(rows.encode(0), tokenizer)):
        assert len(phrases[3:]) == len(set(phrases[3:])) > 0
        assert set(phrases[3:]) == siblings_of(rows, row)


def test_training_rows_see_nothing_of_other_pools(prepared_tiny, pools_of, tokenizer):
    anchor = prepared_tiny.train["anchor"].to_pylist()[-1]
    pools = pools_of("grouped", data=with_texts(prepared_tiny, anchor=anchor), max_length=2000)
    for pool in ("train", "validation", "holdout"):
        rows = getattr(pools, pool)
        for row, phrases in enumerate(texts(rows.encode(0), tokenizer)):
            assert set(phrases[3:]) == siblings_of(rows, row)


WITH_SIBLINGS = ("grouped", "marked", "packed")


@pytest.mark.parametrize("recipe", WITH_SIBLINGS)
def test_siblings_are_shuffled_by_seed_and_epoch_alone(recipe, pools_of):
    def ids(seed, epoch, **options):
        return tuple(pools_of(recipe, seed=seed, **options).train.encode(epoch).ids.tolist())

    assert ids(1, 0) == ids(1, 0)
    assert len({ids(seed, epoch) for seed in (1, 2) for epoch in (0, 1)}) == 4
    first, second = (np.sort(ids(1, epoch)) for epoch in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert len({ids(seed, epoch, shuffle_siblings=False) for seed in (1, 2) for epoch in (0, 1)}) == 1


@pytest.mark.parametrize("recipe", WITH_SIBLINGS)
@pytest.mark.parametrize("pool", ["validation", "test", "holdout"])
def test_each_order_of_a_prediction_is_another_one(recipe, pool, pools_of):
    orders = [tuple(getattr(pools_of(recipe), pool).encode(number).ids.tolist()) for number in range(3)]
    assert len(set(orders)) == 3


def test_every_sibling_comes_first_about_equally_often(pools_of, tokenizer):
    rows = pools_of("grouped").train
    first = [tokenizer.decode(lines(rows.encode(epoch))[0]).split(" [SEP] ")[3] for epoch in range(300)]
    counts = {phrase: first.count(phrase) for phrase in siblings_of(rows, 0)}
    assert len(counts) == 9
    assert 300 / 9 / 2 < min(counts.values()) <= max(counts.values()) < 300 / 9 * 2


@pytest.mark.parametrize("max_length", [20, 24, 31])
def test_as_many_whole_siblings_as_fit(max_length, pools_of, tokenizer):
    whole = texts(pools_of("grouped").train.encode(3), tokenizer)
    encoded = pools_of("grouped", max_length=max_length).train.encode(3)
    cut = 0
    for short, long, length in zip(texts(encoded, tokenizer), whole, encoded.lengths, strict=True):
        assert long[: len(short)] == short
        assert length <= max_length
        cut += len(short) < len(long)
        if len(short) < len(long):
            following = len(tokenizer.tokenize(long[len(short)]))
            assert length + 1 + following > max_length
    assert cut > 0


@pytest.mark.parametrize("recipe", ["pair", "pair_context"])
def test_recipes_without_siblings_are_encoded_once(recipe, pools_of):
    rows = pools_of(recipe).train
    assert rows.encode(0) is rows.encode(1)


def with_texts(data, **texts):
    """Return the data with some of its train columns replaced: by one text, or by a list of them."""
    table = data.train
    for name, text in texts.items():
        column = pa.array(text if isinstance(text, list) else [text] * table.num_rows, pa.string())
        table = table.set_column(table.column_names.index(name), name, column)
    return dataclasses.replace(data, train=table)


@pytest.fixture
def encode_texts(prepared_tiny, pools_of):
    """Return a function that encodes one row of given texts."""

    def encode(anchor, target, context_text, *, max_length):
        data = with_texts(prepared_tiny, anchor=anchor, target=target, context_text=context_text)
        return lines(pools_of("pair_context", data=data, max_length=max_length).train.encode())[0]

    return encode


@pytest.mark.parametrize(
    ("lengths", "max_length", "kept"),
    [
        ((3, 4, 5), 16, (3, 4, 5)),
        ((3, 4, 5), 15, (3, 4, 4)),
        ((3, 4, 5), 12, (3, 4, 1)),
        ((3, 4, 5), 11, (3, 4, 0)),
        ((3, 9, 5), 10, (3, 3, 0)),
        ((9, 2, 0), 10, (4, 2, 0)),
        ((9, 9, 9), 8, (2, 2, 0)),
    ],
)
def test_a_long_row_loses_context_first_then_its_longest_phrase(lengths, max_length, kept, encode_texts, tokenizer):
    words = ("valve", "pump", "rotor")
    phrases = [" ".join([word] * count) for word, count in zip(words, lengths, strict=True)]
    line = encode_texts(*phrases, max_length=max_length)
    assert tuple(line.count(tokenizer.convert_tokens_to_ids(word)) for word in words) == kept
    assert len(line) == sum(kept) + 4
    assert [line[0], line[-1]] == [tokenizer.cls_token_id, tokenizer.sep_token_id]


def test_vocabulary_is_every_token_that_occurs(pools_of, tokenizer):
    pools = pools_of("grouped")
    seen = {tokenizer.pad_token_id}
    for pool in POOLS:
        seen |= set(getattr(pools, pool).encode(0).ids.tolist())
    assert seen <= set(pools.vocabulary.tolist())
    assert pools.vocabulary.tolist() == sorted(set(pools.vocabulary.tolist()))
    assert len(pools.vocabulary) < len(tokenizer)


@pytest.mark.parametrize("seed", range(5))
def test_random_phrases_equal_the_tokenizers_own_ids(seed, prepared_tiny, pools_of, tokenizer):
    generator = random.Random(seed)

    def phrase():
        letters = "ab-c d,e.(f) 1é"
        return " ".join("".join(generator.choices(letters, k=generator.randint(1, 12))).split())

    texts = {name: [phrase() for _ in range(prepared_tiny.train.num_rows)] for name in COLUMNS}
    pools = pools_of("pair_context", data=with_texts(prepared_tiny, **texts))
    for line, row in zip(lines(pools.train.encode()), pools.train.table.to_pylist(), strict=True):
        assert line == tokenizer(f"{row['anchor']} [SEP] {row['target']} [SEP] {row['context_text']}")["input_ids"]


OPTIONS = {
    "grouped": [{"own_target": "kept"}, {"sibling_scope": "section"}, {"max_siblings": 2}, {"shuffle_siblings": False}],
    "marked": [{"sibling_scope": "section"}, {"max_siblings": 2}, {"shuffle_siblings": False}],
}
CASES = [(recipe, options) for recipe in RECIPES for options in ({}, *OPTIONS.get(recipe, []))]


@pytest.mark.parametrize(("recipe", "options"), CASES)
@pytest.mark.parametrize("max_length", [14, 17, 40])
def test_no_text_is_longer_than_the_limit(recipe, options, max_length, pools_of, prepared_tiny):
    generator = random.Random(max_length)
    max_length += 25 if recipe == "prompt" else 0  # its connective words are spelled in letters here
    words = " ".join(prepared_tiny.train["anchor"].to_pylist()).split()
    texts = {
        name: [
            " ".join(generator.choices(words, k=generator.randint(1, 30))) for _ in range(prepared_tiny.train.num_rows)
        ]
        for name in COLUMNS
    }
    pools = pools_of(recipe, data=with_texts(prepared_tiny, **texts), max_length=max_length, **options)
    for pool in POOLS:
        encoded = getattr(pools, pool).encode(2)
        assert encoded.lengths.max() <= max_length
        assert encoded.n_rows == len(getattr(pools, pool))
        assert set(encoded.ids.tolist()) <= set(pools.vocabulary.tolist())


def groups_of(rows, *, by_section=False):
    """Return for each row the targets of its group in its pool, in file order."""
    keys = [(row["anchor"], row["context"][:1] if by_section else row["context"]) for row in rows.table.to_pylist()]
    targets = rows.table["target"].to_pylist()
    return [list(dict.fromkeys(t for t, other in zip(targets, keys, strict=True) if other == key)) for key in keys]


@pytest.fixture
def grouped_rows(prepared_tiny, pools_of):
    """Return a function that gives a pool of grouped rows whose anchors stand in every pool."""
    data = with_texts(prepared_tiny, anchor=(["valve pump"] * 40 + ["rotor"] * 40) * 3 + ["belt"] * 24)
    return lambda pool, **options: getattr(pools_of("grouped", data=data, **options), pool)


@pytest.mark.parametrize(("options", "max_length"), list(itertools.product(OPTIONS["grouped"], (30, 500))), ids=str)
@pytest.mark.parametrize("pool", POOLS)
def test_siblings_are_of_the_rows_group_and_pool(options, max_length, pool, grouped_rows, tokenizer):
    rows = grouped_rows(pool, max_length=max_length, **options)
    own = rows.table["target"].to_pylist()
    kept = options.get("own_target") == "kept"
    n_listed = 0
    for row, phrases in enumerate(texts(rows.encode(5), tokenizer)):
        group = groups_of(rows, by_section="sibling_scope" in options)[row] if row % 16 == 0 else None
        listed = phrases[3:]
        n_listed += len(listed)
        assert len(set(listed)) == len(listed) <= options.get("max_siblings", 1000)
        assert kept or own[row] not in listed
        if group is None:
            continue
        wanted = group if kept else [target for target in group if target != own[row]]
        assert set(listed) <= set(wanted)
        if max_length == 500:
            assert len(listed) == min(len(wanted), options.get("max_siblings", 1000))
        if options.get("shuffle_siblings") is False:
            assert listed == wanted[: len(listed)]
    assert n_listed > 0


@pytest.mark.parametrize("options", [{}, *OPTIONS["marked"]], ids=str)
@pytest.mark.parametrize("max_length", [24, 500])
def test_a_marked_row_has_its_own_target_once_between_markers(options, max_length, pools_of, tokenizer):
    pools = pools_of("marked", max_length=max_length, **options)
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["[TAR]"], special_tokens=True)
    for pool in POOLS:
        rows = getattr(pools, pool)
        own = rows.table["target"].to_pylist()
        groups = groups_of(rows, by_section="sibling_scope" in options)
        places = set()
        for row, phrases in enumerate(texts(rows.encode(4), grown)):
            listed = phrases[2:]
            marked = [phrase for phrase in listed if "[TAR]" in phrase]
            assert marked == [f"[TAR] {own[row]} [TAR]"]
            places.add(listed.index(marked[0]))
            others = [phrase for phrase in listed if phrase not in marked]
            assert len(others) == len(set(others)) <= options.get("max_siblings", 1000)
            assert set(others) <= set(groups[row]) - {own[row]}
            if max_length == 500:
                assert len(others) == min(len(groups[row]) - 1, options.get("max_siblings", 1000))
            if options.get("shuffle_siblings") is False:
                assert others == [target for target in groups[row] if target != own[row]][: len(others)]
        assert len(places) > 1


def test_section_siblings_come_from_other_classes_too(prepared_tiny, pools_of, tokenizer):
    data = with_texts(prepared_tiny, anchor="valve pump", context=["A61", "A47", "H01"] * 88)
    rows = pools_of("grouped", data=data, max_length=5000, sibling_scope="section").train
    targets, codes = rows.table["target"].to_pylist(), rows.table["context"].to_pylist()
    phrases = texts(rows.encode(), tokenizer)
    for row in range(6):
        same = {target for target, code in zip(targets, codes, strict=True) if code[0] == codes[row][0]}
        assert set(phrases[row][3:]) == same - {targets[row]}


def test_packed_texts_without_tokens_are_scored_from_the_separator_ahead(prepared_tiny, pools_of, tokenizer):
    encoded = pools_of("packed", data=with_texts(prepared_tiny, target=""), separator="[s]").validation.encode()
    batch = encoded.batch(np.arange(len(encoded)))
    text, start, length = batch.spans.T
    assert set(length.tolist()) == {1}
    assert set(batch.input_ids[text, start].tolist()) == {len(tokenizer)}
    assert (batch.attention_mask[text, start] == 1).all()


def test_another_task_is_encoded_by_its_roles(prepared_tiny, pools_of, tokenizer):
    task = Task(name="answers", text_columns=("question", "answer", "subject"), score_range=(0.0, 1.0))
    names = {"anchor": "question", "target": "answer", "context": "subject"}

    def renamed(table):
        table = table.drop_columns(["context_text"])
        return table.rename_columns([names.get(name, name) for name in table.column_names])

    manifest = prepared_tiny.manifest.model_copy(update={"task": task})
    data = dataclasses.replace(
        prepared_tiny, manifest=manifest, train=renamed(prepared_tiny.train), test=renamed(prepared_tiny.test)
    )
    rows = pools_of("grouped", data=data).validation
    row = rows.table.to_pylist()[0]
    joined = f"{row['question']} [SEP] {row['answer']} [SEP] {row['subject']} [SEP] "
    start = tokenizer(joined)["input_ids"][:-1]
    assert lines(rows.encode())[0][: len(start)] == start
