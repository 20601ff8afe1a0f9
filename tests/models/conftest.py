"""Tokenizers of two kinds with all of ASCII, tiny checkpoints, and rows few enough to hold in mind."""

import string

import numpy as np
import pyarrow as pa
import pytest

ANCHORS = ("valve pump", "sensor")
SECTION_TITLES = {"A": "HUMAN NEEDS", "H": "HEAT; LIGHT"}
CONTEXT_TEXTS = {
    "A47": "HUMAN NEEDS; CHAIRS",
    "A61": "HUMAN NEEDS; ARMS; HYGIENE",
    "H01": "HEAT; LIGHT; HOT CELLS",
}
ROWS = {
    "train": [
        ("valve pump", "rotor", "A61"),
        ("valve pump", "blade", "A61"),
        ("sensor", "resin", "H01"),
        ("valve pump", "lens film", "A61"),
        ("valve pump", "gear", "A47"),
    ],
    "validation": [("belt", "polymer", "A61"), ("belt", "enzyme", "A61")],
    "test": [("gear", "shaft", "A47"), ("gear", "coating", "A47")],
}


@pytest.fixture(scope="session")
def wordpiece(tmp_path_factory):
    from transformers import BertTokenizerFast

    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, *string.digits]
    vocabulary += [f"##{letter}" for letter in string.ascii_lowercase + string.digits]
    vocabulary += [*string.punctuation, "valve", "pump", "rotor", "##s", "the", "field", "of"]
    path = tmp_path_factory.mktemp("wordpiece") / "vocab.txt"
    path.write_text("\n".join(dict.fromkeys(vocabulary)) + "\n")
    return BertTokenizerFast(vocab=str(path))


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizer

    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(["valve pump rotor the field of"] * 9, vocab_size=290, special_tokens=special)
    folder = str(tmp_path_factory.mktemp("byte-level"))
    bpe.save_model(folder)
    return RobertaTokenizer(vocab=f"{folder}/vocab.json", merges=f"{folder}/merges.txt")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a function from a family's name to its tiny checkpoint."""
    from models.backbones.tiny_checkpoints import make_tiny

    root = tmp_path_factory.mktemp("families")

    def folder(name):
        if not (root / name).exists():
            make_tiny(name, root / name)
        return str(root / name)

    return folder


@pytest.fixture
def few_rows():
    """Return `Prepared` rows: fold 0 is the validation fold, there is no holdout."""
    from data_prep.prepared import Prepared, PreparedManifest
    from data_prep.task import PPPM

    def table(*pools):
        rows = [row for pool in pools for row in ROWS[pool]]
        columns = dict(zip(("anchor", "target", "context"), zip(*rows, strict=True), strict=True))
        texts = [CONTEXT_TEXTS[code] for code in columns["context"]]
        return pa.table({"id": [f"{pools[0]}{n}" for n in range(len(rows))], **columns, "context_text": texts})

    fold = np.array([1] * len(ROWS["train"]) + [0] * len(ROWS["validation"]), dtype=np.int8)
    train = table("train", "validation").append_column("fold", pa.array(fold))
    manifest = PreparedManifest(
        task=PPPM,
        scheme="group",
        n_folds=2,
        seed=1,
        holdout=0.0,
        rows={},
        inputs={},
        data_hash="",
        split_hash="",
        section_titles=SECTION_TITLES,
    )
    targets = pa.array(np.linspace(0, 1, len(fold)), pa.float32())
    return Prepared("few", manifest, train.append_column("score", targets), table("test"))
