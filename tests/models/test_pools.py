import dataclasses
import random

import numpy as np
import pyarrow as pa
import pytest
from transformers import AutoTokenizer

from data_prep.task import Task
from models.candidate import Candidate
from models.pools import Frame, load_pools
from models.recipes import RECIPES

COLUMNS = ("anchor", "target", "context_text")
POOLS = ("train", "validation", "test", "holdout")


@pytest.fixture(scope="session")
def tokenizer(tiny_bert):
    return AutoTokenizer.from_pretrained(tiny_bert)


@pytest.fixture
def pools_of(prepared_tiny, tokenizer, tmp_path):
    def load(recipe, *, max_length=500, seed=1, fold=1, data=prepared_tiny, tokenizer=tokenizer):
        candidate = Candidate(recipe=recipe, max_length=max_length, seed=seed)
        return load_pools(data, fold, candidate=candidate, tokenizer=tokenizer, cache=tmp_path)

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
    assert pools.test.scores is None
    np.testing.assert_array_equal(pools.validation.scores, np.array(prepared_tiny.train["score"])[fold == 1])


def test_a_split_without_holdout_has_no_such_pool(pools_of, prepared_tiny):
    rest = prepared_tiny.train.filter(pa.compute.not_equal(prepared_tiny.train["fold"], -1))
    assert pools_of("pair", data=dataclasses.replace(prepared_tiny, train=rest)).holdout is None


@pytest.mark.parametrize("recipe", RECIPES)
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


def test_siblings_are_shuffled_by_seed_and_epoch_alone(pools_of):
    def ids(seed, epoch):
        return tuple(pools_of("grouped", seed=seed).train.encode(epoch).ids.tolist())

    assert ids(1, 0) == ids(1, 0)
    assert len({ids(seed, epoch) for seed in (1, 2) for epoch in (0, 1)}) == 4
    first, second = (np.sort(ids(1, epoch)) for epoch in (0, 1))
    np.testing.assert_array_equal(first, second)


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


def test_frames_are_the_tokenizers_own(tokenizer):
    from transformers import ByT5Tokenizer

    assert Frame.of(tokenizer) == Frame((2,), 3, (3,), 0)
    plain = ByT5Tokenizer()
    assert Frame.of(plain) == Frame((), plain.eos_token_id, (plain.eos_token_id,), plain.pad_token_id)


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
