"""Tiny checkpoints: a random two-layer folder of any family, to try everything that a published one would meet."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from sentencepiece import SentencePieceProcessor, SentencePieceTrainer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModel

from data_prep.errors import InputError
from models.backbones.checkpoint_files import quiet
from models.backbones.families import FAMILIES, SHIPPED, Family
from models.backbones.family_memory import family_config

N_TOKENS = 600
ASCII = "".join(chr(code) for code in range(ord("!"), ord("~") + 1))
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
HALF_OF_BART = {"layers": 2, "attention_heads": 2, "ffn_dim": 64}
SHAPES: dict[str, dict[str, Any]] = {
    "albert": SHAPE | {"embedding_size": 16},
    "bart": {"d_model": 32, **{f"{h}_{key}": n for h in ("encoder", "decoder") for key, n in HALF_OF_BART.items()}},
    "deberta-v2": SHAPE | {"attention_head_size": 16},
    "electra": SHAPE | {"embedding_size": 16},
    "funnel": {"d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64, "block_sizes": [1, 1]},
    "luke": SHAPE | {"entity_vocab_size": 4, "entity_emb_size": 16},
}
"""Model type -> its sizes where they are not `SHAPE` alone; two have names of their own for all sizes."""

WriteTokenizer = Callable[[Path, Sequence[str]], int]
"""Trains a tokenizer on texts, writes its files into a folder and returns how many tokens it has."""


def make_tiny(family: str, out: str | Path, *, texts: Sequence[str] | None = None, seed: int = 0) -> list[Path]:
    """Make a random checkpoint of a family's architecture with a tokenizer of its class, trained on the spot.

    Two layers, hidden size 32, everything else as released; the files are those that the family has on the hub. With
    family `all`, one folder for each hub name is made inside of `out`, ready for `--backbones`. The tokenizer learns
    its pieces from `texts`, by default the phrases of the shipped sample. Returns the folders made.

    Raises:
        InputError: no such family, or `out` is there already and not empty.
    """
    texts = sample_phrases() if texts is None else texts
    if family == "all":
        return [_make(known, Path(out) / known.hub, texts, seed) for name, known in FAMILIES.items() if name != SHIPPED]
    known = FAMILIES.get(family) or next((known for known in FAMILIES.values() if known.hub == family), None)
    if known is None:
        raise InputError(f"--family {family!r}: no such family; known: {', '.join([*FAMILIES, 'all'])}")
    return [_make(known, Path(out), texts, seed)]


def sample_phrases() -> list[str]:
    """Return the distinct phrases of the shipped sample, sorted."""
    folder = files("data_prep") / "sample"
    phrases: set[str] = set()
    for name in ("train.csv", "test.csv"):
        for row in csv.DictReader(io.StringIO((folder / name).read_text(encoding="utf-8"))):
            phrases |= {row["anchor"], row["target"]}
    return sorted(phrases)


def _make(family: Family, out: Path, texts: Sequence[str], seed: int) -> Path:
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out}: there are files already; give a folder that is new or empty")
    out.mkdir(parents=True, exist_ok=True)
    n_tokens = TOKENIZERS[family.tokenizer](out, texts)
    config = family_config(family, **SHAPES.get(family.model_type, SHAPE), vocab_size=n_tokens)
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(seed)
        AutoModel.from_config(config).save_pretrained(out)
    if family.model_type == "cocolm":
        _as_released(out)
    (out / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 512}))
    return out


def _as_released(folder: Path) -> None:
    """Turn the weights into COCO-LM's layout: a pickled file whose keys bear the prefix `cocolm.`."""
    weights = load_file(folder / "model.safetensors")
    torch.save({f"cocolm.{key}": value for key, value in weights.items()}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _word_pieces(first: Sequence[str], *, unknown: str = "[UNK]") -> WriteTokenizer:
    """Return what trains WordPiece and writes `vocab.txt`, the special tokens `first`."""

    def write(folder: Path, texts: Sequence[str]) -> int:
        tokenizer = Tokenizer(models.WordPiece(unk_token=unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        letters = sorted({*ASCII, *"".join(texts).lower()} - {" "})
        known = [*first, *letters, *(f"##{letter}" for letter in letters)]  # in an order that every run has
        trainer = trainers.WordPieceTrainer(vocab_size=N_TOKENS, special_tokens=known, show_progress=False)
        tokenizer.train_from_iterator(texts, trainer)
        pieces = _in_order(tokenizer.get_vocab())
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
        return len(pieces)

    return write


def _byte_pairs(first: Sequence[str], last: Sequence[str]) -> WriteTokenizer:
    """Return what trains byte-level BPE and writes `vocab.json`, `merges.txt`, special tokens `first` and `last`."""

    def write(folder: Path, texts: Sequence[str]) -> int:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=N_TOKENS,
            special_tokens=list(first),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([f"{text} {text}" for text in texts], trainer)
        tokenizer.model.save(str(folder))
        vocabulary = {piece: number for number, piece in enumerate([*_in_order(tokenizer.get_vocab()), *last])}
        (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        return len(vocabulary)

    return write


def _luke(folder: Path, texts: Sequence[str]) -> int:
    """Write RoBERTa's files and LUKE's own entities, which no text here contains."""
    n_tokens = _byte_pairs(ROBERTA_FIRST, ["<mask>"])(folder, texts)
    entities = {entity: number for number, entity in enumerate(["[PAD]", "[UNK]", "[MASK]", "[MASK2]"])}
    (folder / "entity_vocab.json").write_text(json.dumps(entities), encoding="utf-8")
    return n_tokens + 2  # its tokenizer adds <ent> and <ent2>


def _sentence_pieces(file: str, *, added: int = 0, **special: Any) -> WriteTokenizer:
    """Return what trains a sentencepiece model and writes it to `file`; the tokenizer adds `added` tokens."""

    def write(folder: Path, texts: Sequence[str]) -> int:
        model = io.BytesIO()
        SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=N_TOKENS,
            hard_vocab_limit=False,
            required_chars=ASCII,
            num_threads=1,
            minloglevel=2,
            **special,
        )
        (folder / file).write_bytes(model.getvalue())
        return len(SentencePieceProcessor(model_proto=model.getvalue())) + added

    return write


def _cocolm(folder: Path, texts: Sequence[str]) -> int:
    """Write `sp.model` and `dict.txt`, which gives its pieces new numbers."""
    _sentence_pieces("sp.model")(folder, texts)
    pieces = SentencePieceProcessor(model_file=str(folder / "sp.model"))
    own = (number for number in range(len(pieces)) if not (pieces.is_control(number) or pieces.is_unknown(number)))
    symbols = [pieces.id_to_piece(number) for number in own]
    (folder / "dict.txt").write_text("".join(f"{symbol} 1\n" for symbol in symbols), encoding="utf-8")
    return len(symbols) + 5  # four symbols before them, <mask> behind


def _in_order(vocabulary: Mapping[str, int]) -> list[str]:
    return sorted(vocabulary, key=lambda piece: vocabulary[piece])


ROBERTA_FIRST = ("<s>", "<pad>", "</s>", "<unk>")
TOKENIZERS: dict[str, WriteTokenizer] = {
    "AlbertTokenizer": _sentence_pieces(
        "spiece.model",
        pad_id=0,
        pad_piece="<pad>",
        unk_id=1,
        bos_id=-1,
        eos_id=-1,
        control_symbols=["[CLS]", "[SEP]", "[MASK]"],
    ),
    "BertTokenizer": _word_pieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]),
    "CocolmTokenizer": _cocolm,
    "DebertaTokenizer": _byte_pairs(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], ["[MASK]"]),
    "DebertaV2Tokenizer": _sentence_pieces(
        "spm.model",
        added=1,  # [MASK]
        pad_id=0,
        pad_piece="[PAD]",
        bos_id=1,
        bos_piece="[CLS]",
        eos_id=2,
        eos_piece="[SEP]",
        unk_id=3,
        unk_piece="[UNK]",
    ),
    "FunnelTokenizer": _word_pieces(["<pad>", "<unk>", "<cls>", "<sep>", "<mask>", "<s>", "</s>"], unknown="<unk>"),
    "LukeTokenizer": _luke,
    "MPNetTokenizer": _word_pieces(["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]),
    "RobertaTokenizer": _byte_pairs(ROBERTA_FIRST, ["<mask>"]),
}
"""By tokenizer class."""
