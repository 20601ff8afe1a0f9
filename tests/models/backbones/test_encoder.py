"""Every family, as a tiny checkpoint: what the rest of the project relies on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from data_prep.errors import InputError
from models.backbones.families import FAMILIES
from models.backbones.family_memory import family_config
from models.backbones.tiny_checkpoints import sample_phrases
from models.text.special_tokens import first_new_id
from small_models import load

ARCHITECTURES = [
    "minilm-l6",
    "deberta-v3-large",
    "deberta-v2-xlarge",
    "deberta-large",
    "roberta-large",
    "cocolm-large",
    "patentsberta",
    "funnel-xlarge",
    "ernie-2.0-large-en",
    "albert-xxlarge-v2",
    "electra-large-discriminator",
    "luke-large",
    "bart-large",
]
"""One family of each architecture: the tiny checkpoints of the others are the same but for their sizes' names."""
TINY_FUNNEL = {"vocab_size": 600, "d_model": 32, "n_head": 2, "d_head": 16, "d_inner": 64}
LENGTHS = (11, 10, 7, 6, 5, 3, 2, 1)


def example(backbone, *, lengths=LENGTHS, seed=1):
    """Return random ids padded as the backbone's tokenizer pads, and their mask."""
    longest = max(lengths)
    ids = torch.randint(10, 500, (len(lengths), longest), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return torch.where(mask == 1, ids, backbone.tokenizer.pad_token_id), mask


def all_states(backbone, ids, mask, segments=None):
    with torch.no_grad():
        return backbone.model.eval()(ids, mask, segments, n_states=backbone.n_states)


def test_the_architectures_are_those_of_all_families():
    assert {FAMILIES[name].model_type for name in ARCHITECTURES} == {family.model_type for family in FAMILIES.values()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gives_the_hidden_states_of_transformers_own_model(name, tiny):
    backbone = load(tiny(name))
    ids, mask = example(backbone)
    states = all_states(backbone, ids, mask)
    width = ids.shape[1]
    if name.startswith("funnel"):  # as long as in the memo, so that no text reaches the end
        ids = nn.functional.pad(ids, (0, 64 - width), value=backbone.tokenizer.pad_token_id)
        mask = nn.functional.pad(mask, (0, 64 - width))
    with torch.no_grad():
        own = AutoModel.from_pretrained(tiny(name)).eval()(ids, mask, output_hidden_states=True)
    expected = own.get("decoder_hidden_states") or own.hidden_states
    if name.startswith("funnel"):
        expected = (*expected[:2], *expected[3:])
    assert len(states) == len(expected) == backbone.n_states
    for state, right in zip(states, expected, strict=True):
        assert state.shape == (*mask[:, :width].shape, backbone.hidden_size)
        real = mask[:, :width] == 1
        torch.testing.assert_close(state[real], right[:, :width][real], rtol=0, atol=2e-6)
    for n_states in (1, 2):
        with torch.no_grad():
            top = backbone.model(*example(backbone), n_states=n_states)
        assert len(top) == n_states
        for state, right in zip(top, states[-n_states:], strict=True):
            torch.testing.assert_close(state, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_alone_equals_the_row_in_a_batch(name, attention, tiny):
    backbone = load(tiny(name))
    if attention == "eager":
        backbone.model.model.set_attn_implementation("eager")
    ids, mask = example(backbone)
    segments = (torch.arange(ids.shape[1]) >= 3).long() * mask
    together = all_states(backbone, ids, mask, segments)
    for row, length in enumerate(LENGTHS):
        part = slice(row, row + 1), slice(0, length)
        for alone, state in zip(all_states(backbone, ids[part], mask[part], segments[part]), together, strict=True):
            torch.testing.assert_close(alone[0], state[row, :length], rtol=0, atol=1e-5)


@pytest.mark.parametrize("blocks", [[2, 2], [1, 1, 1], [1, 1, 1, 1]])
def test_padding_changes_nothing_in_a_funnel_of_any_depth(blocks, tiny, tmp_path):
    config = family_config(FAMILIES["funnel-large"], **TINY_FUNNEL, block_sizes=blocks)
    for file in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((Path(tiny("funnel-xlarge")) / file).read_bytes())
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    backbone = load(str(tmp_path))
    ids, mask = example(backbone, lengths=tuple(range(26, 0, -1)))
    together = all_states(backbone, ids, mask)
    assert len(together) == 1 + blocks[0] + 3
    for row, length in enumerate(range(26, 0, -1)):
        for alone, state in zip(
            all_states(backbone, ids[row : row + 1, :length], mask[row : row + 1, :length]), together, strict=True
        ):
            torch.testing.assert_close(alone[0], state[row, :length], rtol=0, atol=1e-5)


SEPARATORS = {
    "minilm-l6": ("[CLS]", "[SEP]"),
    "deberta-v3-large": ("[CLS]", "[SEP]"),
    "deberta-v2-xlarge": ("[CLS]", "[SEP]"),
    "deberta-large": ("[CLS]", "[SEP]"),
    "roberta-large": ("<s>", "</s>"),
    "cocolm-large": ("<s>", "</s>"),
    "patentsberta": ("<s>", "</s>"),
    "funnel-xlarge": ("<cls>", "<sep>"),
    "ernie-2.0-large-en": ("[CLS]", "[SEP]"),
    "albert-xxlarge-v2": ("[CLS]", "[SEP]"),
    "electra-large-discriminator": ("[CLS]", "[SEP]"),
    "luke-large": ("<s>", "</s>"),
    "bart-large": ("<s>", "</s>"),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_text_stands_between_the_familys_own_tokens(name, tiny):
    tokenizer = load(tiny(name)).tokenizer
    start, separator = SEPARATORS[name]
    phrase = "abrasive grain of a wheel, 3.5 mm (steel)"
    bare = tokenizer(phrase, add_special_tokens=False)["input_ids"]
    ids = tokenizer(phrase)["input_ids"]
    assert ids == [ids[0], *bare, tokenizer.sep_token_id]
    assert tokenizer.convert_ids_to_tokens([ids[0], tokenizer.sep_token_id]) == [start, separator]
    assert {tokenizer.unk_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}.isdisjoint(bare)
    assert len({ids[0], tokenizer.unk_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}) == 4
    config = AutoConfig.from_pretrained(tiny(name))
    assert config.vocab_size in (len(tokenizer), 603)  # LUKE's tokenizer counts its four entities as well
    assert config.pad_token_id == tokenizer.pad_token_id or name.startswith("funnel")


def with_json(tokenizer, folder):
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_all_ways_to_load_a_tokenizer_give_the_same_ids(name, tiny, tmp_path):
    found = load(tiny(name)).tokenizer
    assert type(found).__name__ == FAMILIES[name].tokenizer
    config = AutoConfig.from_pretrained(tiny(name))
    config.save_pretrained(with_json(found, tmp_path))
    others = [type(found).from_pretrained(tiny(name)), AutoTokenizer.from_pretrained(tmp_path)]
    if hasattr(found, "backend_tokenizer"):
        assert (tmp_path / "tokenizer.json").exists()
        others.append(type(found).from_pretrained(tmp_path))
    phrases = [*sample_phrases()[::7], "3.5 mm Steel-Rotor (A/B)", "Größe  of   spaces ", "[x] unseen q$z"]
    expected = found(phrases)["input_ids"]
    for other in others:
        assert type(other) is type(found)
        assert other(phrases)["input_ids"] == expected
        assert (other.sep_token_id, other.pad_token_id) == (found.sep_token_id, found.pad_token_id)


@pytest.mark.parametrize("name", ["deberta-v3-large", "albert-xxlarge-v2", "minilm-l6", "electra-large-discriminator"])
def test_ids_are_those_of_the_reference_implementation(name, tiny):
    tokenizer = load(tiny(name)).tokenizer
    phrases = sample_phrases()
    ids = tokenizer(phrases, add_special_tokens=False)["input_ids"]
    if FAMILIES[name].tokenizer == "BertTokenizer":
        reference = transformers.BertTokenizerLegacy(f"{tiny(name)}/vocab.txt")
        expected = [reference.convert_tokens_to_ids(reference.tokenize(phrase)) for phrase in phrases]
    else:
        from sentencepiece import SentencePieceProcessor

        file = "spm.model" if name.startswith("deberta") else "spiece.model"
        expected = SentencePieceProcessor(model_file=f"{tiny(name)}/{file}").encode(phrases)
    assert ids == expected


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_dropout_reaches_every_dropout(name, tiny):
    def run(dropout):
        backbone = load(tiny(name), dropout=dropout)
        rates = {module.p for module in backbone.model.modules() if isinstance(module, nn.Dropout)}
        for layer in backbone.layers[1:]:  # BART applies its rates by hand
            rates |= {
                value
                for module in layer.modules()
                for key, value in vars(module).items()
                if "dropout" in key and isinstance(value, float)
            }
        assert rates == {dropout}
        torch.manual_seed(3)
        ids, mask = example(backbone)
        return backbone.model(ids, mask)[-1], backbone.model(ids, mask)[-1]

    first, second = run(0.0)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    first, second = run(0.25)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_kept_are_the_first_ones(name, tiny):
    whole, kept = load(tiny(name)), load(tiny(name), layers=1)
    n_layers = {"albert": (1, 1), "bart": (4, 2), "funnel": (4, 3)}.get(FAMILIES[name].model_type, (2, 1))
    assert (len(whole.layers) - 1, len(kept.layers) - 1) == n_layers
    known = dict(whole.model.named_parameters())
    for key, value in kept.model.named_parameters():
        torch.testing.assert_close(value, known[key], rtol=0, atol=0)
    ids, mask = example(whole)
    if len(whole.layers) == 3:
        lower = all_states(whole, ids, mask)[1]
        torch.testing.assert_close(all_states(kept, ids, mask)[-1], lower, rtol=0, atol=1e-6)
    assert kept.n_states == {"funnel": 5}.get(FAMILIES[name].model_type, 2) == len(all_states(kept, ids, mask))


def test_a_funnel_keeps_layers_across_its_blocks(tiny, tmp_path):
    config = family_config(FAMILIES["funnel-large"], **TINY_FUNNEL, block_sizes=[2, 2, 2])
    for file in ("vocab.txt", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((Path(tiny("funnel-xlarge")) / file).read_bytes())
    AutoModel.from_config(config).save_pretrained(tmp_path)
    for layers, blocks in ((6, [2, 2, 2]), (5, [2, 2, 1]), (3, [2, 1]), (2, [2]), (1, [1])):
        backbone = load(str(tmp_path), layers=layers)
        assert backbone.model.config.block_sizes == blocks
        assert len(backbone.layers) == 1 + layers + 2
        assert all_states(backbone, *example(backbone))[-1].isfinite().all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_frozen_parts_do_not_learn_and_all_others_do(name, tiny):
    backbone = load(tiny(name), freeze_embeddings=True, freeze_layers=1)
    frozen = {id(part) for layer in backbone.layers[:2] for part in layer.parameters()}
    assert id(backbone.model.model.get_input_embeddings().weight) in frozen
    for part in backbone.model.parameters():
        assert part.requires_grad == (id(part) not in frozen)


OUTSIDE = {
    "deberta-v3-large": {"encoder.rel_embeddings.weight", "encoder.LayerNorm.weight", "encoder.LayerNorm.bias"},
    "deberta-large": {"encoder.rel_embeddings.weight"},
    "cocolm-large": {"relative_attention_bias.weight"},
    "patentsberta": {"encoder.relative_attention_bias.weight"},
}
"""Parameters that belong to no layer."""
OUTSIDE["deberta-v2-xlarge"] = OUTSIDE["deberta-v3-large"] | {
    f"encoder.conv.{part}.{kind}" for part in ("conv", "LayerNorm") for kind in ("weight", "bias")
}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_belongs_to_one_layer_or_is_listed_here(name, tiny):
    backbone = load(tiny(name))
    owners = Counter(id(value) for layer in backbone.layers for value in layer.parameters())
    assert set(owners.values()) == {1}
    outside = {key for key, value in backbone.model.model.named_parameters() if id(value) not in owners}
    assert outside == OUTSIDE.get(name, set())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_layers_are_applied_in_the_order_listed(name, tiny):
    backbone = load(tiny(name))
    order = []
    for number, layer in enumerate(backbone.layers[1:]):
        layer.register_forward_hook(lambda *_, number=number: order.append(number))
    backbone.model(*example(backbone))
    assert list(dict.fromkeys(order)) == list(range(len(backbone.layers) - 1))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_segments_matter_where_the_model_knows_of_them(name, tiny):
    backbone = load(tiny(name))
    ids, mask = example(backbone)
    segments = (torch.arange(ids.shape[1]) >= 4).long() * mask
    plain, zeros, told = (all_states(backbone, ids, mask, given)[-1] for given in (None, segments * 0, segments))
    torch.testing.assert_close(plain[mask == 1], zeros[mask == 1], rtol=0, atol=0)
    knows = FAMILIES[name].model_type in ("bert", "electra", "ernie", "albert", "funnel")
    assert (backbone.model.n_segments > 1) == knows
    assert torch.equal(plain[0], told[0]) != knows


def test_a_funnel_takes_its_first_token_for_both_segments_whatever_it_is_told(tiny):
    backbone = load(tiny("funnel-xlarge"))
    encoded = backbone.tokenizer(["abrasive grain"], ["diamond wheel"], return_tensors="pt", return_token_type_ids=True)
    assert encoded["token_type_ids"][0, 0] == 2
    segments = encoded["token_type_ids"].clone()
    segments[0, 0] = 0
    own = AutoModel.from_pretrained(tiny("funnel-xlarge")).eval()
    padded = {
        key: nn.functional.pad(encoded[key], (0, 20), value=value)
        for key, value in (("input_ids", 0), ("attention_mask", 0), ("token_type_ids", 0))
    }
    with torch.no_grad():
        expected = own(**padded).last_hidden_state[:, : segments.shape[1]]
        found = backbone.model.eval()(encoded["input_ids"], encoded["attention_mask"], segments)[-1]
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def gradients(backbone, ids, mask):
    torch.manual_seed(5)
    sum(state[:, 0].square().sum() for state in backbone.model(ids, mask, n_states=2)).backward()
    return {key: value.grad for key, value in backbone.model.named_parameters()}


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_checkpointing_computes_layers_again_and_gives_the_same_gradients(name, freeze, tiny):
    settings = {"dropout": 0.1, "freeze_embeddings": freeze}
    plain, sparing = load(tiny(name), **settings), load(tiny(name), **settings, checkpointing=True)
    calls = [Counter(), Counter()]
    for backbone, count in zip((plain, sparing), calls, strict=True):
        for number, layer in enumerate(backbone.layers[1:]):
            inner = next(module for module in layer.modules() if isinstance(module, nn.Linear))
            inner.register_forward_pre_hook(lambda *_, number=number, count=count: count.update([number]))
    ids, mask = example(plain)
    expected, found = gradients(plain, ids, mask), gradients(sparing, ids, mask)
    assert expected.keys() == found.keys()
    assert sum(value is not None for value in expected.values()) > 0.6 * len(expected)
    for key, value in expected.items():
        assert (value is None) == (found[key] is None)
        if value is not None:
            torch.testing.assert_close(found[key], value, rtol=0, atol=0)
    assert len(calls[0]) == len(plain.layers) - 1
    assert calls[1] == {number: 2 * times for number, times in calls[0].items()}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_chosen_vocabulary_trains_the_same_numbers(name, tiny):
    results = []
    for chosen in (False, True):
        ids, mask = example(load(tiny(name)))
        vocabulary = np.unique(ids[mask == 1].numpy()) if chosen else None
        backbone = load(tiny(name), dropout=0.0, vocabulary=vocabulary)
        trained = [part for part in backbone.model.parameters() if part.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=1e-3)
        for _ in range(3):
            backbone.model(ids, mask)[-1][:, 0].square().sum().backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
        results.append((all_states(backbone, ids, mask)[-1][mask == 1], sum(part.numel() for part in trained)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-5)
    assert results[1][1] < results[0][1]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_added_tokens_get_embeddings_like_the_others(name, tiny):
    plain = load(tiny(name))
    table = plain.model.model.get_input_embeddings().weight.detach()
    new_ids = first_new_id(plain.tokenizer) + np.arange(3)
    for first in (0, 5):
        old_ids = np.arange(first, len(table))
        backbone = load(tiny(name), vocabulary=np.append(old_ids, new_ids[:2]))
        again = load(tiny(name), vocabulary=np.append(old_ids, new_ids))
        ids, mask = example(backbone)
        old = all_states(plain, ids, mask)[-1]
        torch.testing.assert_close(all_states(backbone, ids, mask)[-1], old, rtol=0, atol=0)
        ids[0, 3] = new_ids[1]
        new = all_states(backbone, ids, mask)[-1]
        assert not torch.equal(new[0], old[0])
        torch.testing.assert_close(all_states(again, ids, mask)[-1], new, rtol=0, atol=0)
    added = again.model.model.get_input_embeddings().weight[len(table) :]
    assert ((added - table.mean(dim=0)).abs() < 5 * table.std(dim=0)).all()


def test_new_rows_are_spread_as_the_old_ones(tiny):
    backbone = load(tiny("minilm-l6"), vocabulary=np.arange(20_600))
    rows = backbone.model.model.get_input_embeddings().weight.detach()
    old, new = rows[:600], rows[600:]
    torch.testing.assert_close(new.mean(dim=0), old.mean(dim=0), rtol=0, atol=5 * float(old.std()) / len(new) ** 0.5)
    torch.testing.assert_close(new.std(dim=0), old.std(dim=0), rtol=0.03, atol=0)


def test_a_scaled_embedding_keeps_its_scale(tiny, tmp_path):
    config = AutoConfig.from_pretrained(tiny("bart-large"))
    config.scale_embedding = True
    AutoModel.from_pretrained(tiny("bart-large"), config=config).save_pretrained(tmp_path)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (tmp_path / file).write_bytes((Path(tiny("bart-large")) / file).read_bytes())
    plain = load(str(tmp_path))
    ids, mask = example(plain)
    chosen = load(str(tmp_path), vocabulary=np.arange(3, 500))
    assert plain.model.model.get_input_embeddings().embed_scale == pytest.approx(32**0.5)
    for left, right in zip(all_states(chosen, ids, mask), all_states(plain, ids, mask), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saved_weights_load_into_a_fresh_backbone(name, tiny, tmp_path):
    vocabulary = np.arange(5, 500)
    backbone = load(tiny(name), vocabulary=vocabulary)
    with torch.no_grad():
        for part in backbone.model.parameters():
            part.add_(0.01)
    ids, mask = example(backbone)
    weights = {key: value.clone() for key, value in backbone.model.state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    fresh = load(tiny(name), vocabulary=vocabulary)
    fresh.model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for left, right in zip(all_states(fresh, ids, mask), all_states(backbone, ids, mask), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_family_trains_and_predicts(name, tiny):
    backbone = load(tiny(name), dropout=0.0, checkpointing=True)
    torch.manual_seed(0)
    head = nn.Linear(backbone.hidden_size, 1)
    phrases = sample_phrases()[::120]
    encoded = backbone.tokenizer(phrases, padding=True, return_tensors="pt")
    truth = torch.linspace(0, 1, len(phrases))
    optimizer = torch.optim.AdamW([*backbone.model.parameters(), *head.parameters()], lr=3e-3)

    def predict():
        mask = encoded["attention_mask"]
        hidden = backbone.model(encoded["input_ids"], mask)[-1] * mask.unsqueeze(-1)
        return head(hidden.sum(dim=1) / mask.sum(dim=1, keepdim=True))[:, 0]

    losses = []
    for _ in range(15):
        loss = (predict() - truth).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * truth.var().item()
    backbone.model.eval()
    predictions = predict()
    assert predictions.isfinite().all()
    assert np.corrcoef(predictions.detach(), truth)[0, 1] > 0.5


OTHERS = {
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    "modernbert": {
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "pad_token_id": 0,
    },
    "mbart": {
        "d_model": 32,
        "pad_token_id": 0,
        **{
            f"{half}_{key}": value for half in ("encoder", "decoder") for key, value in (("layers", 2), ("ffn_dim", 64))
        },
    },
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2},
    "xlm-roberta": {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "pad_token_id": 0,
    },
}


@pytest.mark.parametrize("model_type", OTHERS)
def test_other_models_that_transformers_knows_work_by_their_structure(model_type, tiny, tmp_path):
    config = AutoConfig.for_model(model_type, vocab_size=600, **OTHERS[model_type])
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny("minilm-l6")).save_pretrained(tmp_path)
    settings = {"layers": 2, "dropout": 0.0, "freeze_embeddings": True, "checkpointing": True}
    backbone = load(str(tmp_path), **settings, vocabulary=np.arange(5, 610))
    assert len(backbone.layers) == (5 if model_type == "mbart" else 3)
    assert not hasattr(backbone.model.model, "decoder") or model_type == "mbart"
    ids, mask = example(backbone)
    segments = torch.ones_like(ids)
    together = all_states(backbone, ids, mask, segments)
    for row, length in enumerate(LENGTHS):
        part = slice(row, row + 1), slice(0, length)
        for alone, state in zip(all_states(backbone, ids[part], mask[part], segments[part]), together, strict=True):
            torch.testing.assert_close(alone[0], state[row, :length], rtol=0, atol=1e-5)
    backbone.model.train()(ids, mask)[-1].sum().backward()
    assert all(value.grad is not None for layer in backbone.layers[1:] for value in layer.parameters())


def test_an_id_outside_the_vocabulary_is_an_error(tiny_bert):
    backbone = load(tiny_bert, vocabulary=np.array([0, 2, 3, 9]))
    with pytest.raises(IndexError):
        backbone.model(torch.tensor([[2, 10, 3]]), torch.ones(1, 3, dtype=torch.int64))


def test_bert_is_fp32_with_sdpa_in_training_mode_without_pooler(tiny_bert):
    backbone = load(tiny_bert)
    assert {part.dtype for part in backbone.model.parameters()} == {torch.float32}
    assert backbone.model.model.config._attn_implementation == "sdpa"
    assert backbone.model.training
    assert not [name for name, _ in backbone.model.named_parameters() if "pooler" in name]


def test_a_luke_has_neither_entities_nor_queries_for_them(tiny):
    names = [name for name, _ in load(tiny("luke-large")).model.named_parameters()]
    assert names
    assert not [name for name in names if "entity" in name or "e_query" in name or "e2" in name]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 3}, "layers=3: backbone .* has only 2 encoder layers"),
        ({"freeze_layers": 3}, "freeze_layers=3: backbone .* has only 2 encoder layers"),
        ({"max_length": 65}, "max_length=65: backbone .* has positions for 64 tokens only"),
    ],
)
def test_more_than_the_backbone_has_is_refused(settings, message, tiny_bert):
    with pytest.raises(InputError, match=message):
        load(tiny_bert, **settings)


POSITIONS = {
    "minilm-l6": 512,
    "deberta-v3-large": None,
    "deberta-large": None,
    "roberta-large": 512,
    "cocolm-large": 512,
    "patentsberta": 512,
    "funnel-xlarge": None,
    "albert-xxlarge-v2": 512,
    "luke-large": 512,
    "bart-large": 1024,
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_end_where_the_tables_end(name, tiny):
    reach = POSITIONS[name]
    backbone = load(tiny(name), max_length=reach or 2_000)
    longest = torch.full((1, reach or 600), 20)
    assert backbone.model(longest, torch.ones_like(longest))[-1].isfinite().all()
    if reach is not None:
        with pytest.raises(InputError, match=f"positions for {reach} tokens"):
            load(tiny(name), max_length=reach + 1)
