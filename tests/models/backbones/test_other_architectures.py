"""Architectures beyond the known families: what works by structure, and the sentence where it cannot."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from data_prep.errors import InputError
from models.candidate import Candidate
from models.parts.mixout import Mixout
from small_models import learner_of, load

BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
GPT = {"n_embd": 32, "n_layer": 3, "n_head": 2}
T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 3, "num_heads": 2}
LLAMA = BERT | {"num_key_value_heads": 2, "head_dim": 16}
SIZES = {
    "bart": {
        "d_model": 32,
        **{f"{half}_{key}": 2 for half in ("encoder", "decoder") for key in ("layers", "attention_heads", "ffn_dim")},
    },
    "bert": BERT,
    "convbert": BERT,
    "esm": BERT | {"mask_token_id": 4, "vocab_size": 600},
    "fnet": BERT,
    "gpt2": GPT,
    "ibert": BERT,
    "layoutlm": BERT,
    "lilt": BERT,
    "llama": LLAMA,
    "longformer": BERT | {"attention_window": [8, 8, 8]},
    "mobilebert": BERT | {"embedding_size": 32, "intra_bottleneck_size": 32, "true_hidden_size": 32},
    "nystromformer": BERT,
    "openai-gpt": GPT,
    "opt": BERT | {"ffn_dim": 64, "word_embed_proj_dim": 32},
    "qwen3": LLAMA | {"layer_types": ["full_attention"] * 3},
    "roberta": BERT,
    "squeezebert": BERT | {"embedding_size": 32},
    "t5": T5,
    "xlm": {"emb_dim": 32, "n_layers": 3, "n_heads": 2},
    "xlnet": {"d_model": 32, "n_layer": 3, "n_head": 2, "d_inner": 64},
}
LEFT_TO_RIGHT = ("gpt2", "llama", "openai-gpt", "opt", "qwen3")
LENGTHS = (7, 4, 1)


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    """Return a function from a model type to a random checkpoint; `padding` of its tokenizer is own, end or none."""

    def make(model_type, *, padding="own", first=True, change=nn.Module.train, **settings):
        folder = tmp_path_factory.mktemp(model_type)
        tokens = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
        config = AutoConfig.for_model(model_type, **({"vocab_size": 600} | tokens | SIZES[model_type] | settings))
        torch.manual_seed(0)
        model = AutoModel.from_config(config)
        change(model)
        model.save_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(tiny("minilm-l6"))
        if not first:
            tokenizer.backend_tokenizer.post_processor = None
            tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, pad_token="[PAD]")
        if padding != "own":
            tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]" if padding == "end" else None
        tokenizer.save_pretrained(folder)
        return str(folder)

    return make


def example():
    ids = torch.randint(10, 500, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    return torch.where(mask == 1, ids, 0), mask


def states(backbone, ids, mask):
    with torch.no_grad():
        return backbone.model.eval()(ids, mask)[-1]


@pytest.mark.parametrize("head", ["cls", "cls_last4"])
@pytest.mark.parametrize("model_type", LEFT_TO_RIGHT)
def test_the_first_token_of_a_model_that_reads_from_left_to_right_is_no_head(model_type, head, checkpoint):
    folder = checkpoint(model_type)
    with pytest.raises(
        InputError, match=f"head={head}: .* sees none of the tokens behind it; use head last, mean, max"
    ):
        load(folder, head=head)
    backbone = load(folder, head="last")
    ids, mask = example()
    changed = ids.clone()
    changed[0, 0] = 9
    assert not torch.equal(states(backbone, changed, mask)[0, LENGTHS[0] - 1], states(backbone, ids, mask)[0, 6])


@pytest.mark.parametrize("model_type", ["t5", "xlnet", "bert"])
def test_the_first_token_is_no_head_where_it_is_a_word(model_type, checkpoint):
    with pytest.raises(InputError, match=r"is one of its words: \w+ puts none ahead of it; use head last"):
        load(checkpoint(model_type, first=False), head="cls")
    load(checkpoint(model_type), head="cls")


def with_a_padding_row(model):
    nn.init.normal_(model.get_input_embeddings().weight)


@pytest.mark.parametrize("model_type", ["fnet", "convbert", "mobilebert", "nystromformer"])
def test_a_model_whose_states_change_by_padding_is_refused(model_type, checkpoint):
    with pytest.raises(InputError, match=r"padding changes the hidden states of \w+ by [\d.]+%, so a row's prediction"):
        load(checkpoint(model_type, change=with_a_padding_row))


@pytest.mark.parametrize("model_type", ["ibert", "lilt"])
def test_what_cannot_work_is_one_sentence(model_type, checkpoint):
    with pytest.raises(InputError, match="not an encoder whose structure blendfold understands") as error:
        load(checkpoint(model_type), vocabulary=np.arange(600))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model_type", [*LEFT_TO_RIGHT, "longformer", "layoutlm", "squeezebert", "xlm"])
def test_every_setting_works_by_structure(model_type, checkpoint):
    folder = checkpoint(model_type)
    ids, mask = example()
    gradients = []
    for checkpointing in (False, True):
        backbone = load(folder, layers=2, dropout=0.0, checkpointing=checkpointing, freeze_embeddings=True)
        assert len(backbone.layers) == 3
        backbone.model(ids, mask, n_states=3)[-1].square().sum().backward()
        gradients.append({name: value.grad for name, value in backbone.model.named_parameters()})
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value, rtol=0, atol=1e-7)
    whole = states(backbone, ids, mask)
    for row, length in enumerate(LENGTHS):
        alone = states(backbone, ids[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(alone[0], whole[row, :length], rtol=0, atol=1e-5)
    mixed = {id(part) for part in Mixout(backbone.model, 0.5).linears}
    assert len(mixed) >= 2 * 4


def test_a_longformer_has_global_attention_on_its_first_token(checkpoint):
    folder = checkpoint("longformer")
    ids, mask = example()
    seen_by_all = torch.zeros_like(mask)
    seen_by_all[:, 0] = 1
    with torch.no_grad():
        own = AutoModel.from_pretrained(folder).eval()(ids, mask, global_attention_mask=seen_by_all)
    torch.testing.assert_close(states(load(folder), ids, mask), own.last_hidden_state, rtol=0, atol=1e-6)


EMBEDDINGS = {
    "gpt2": {"wte.weight", "wpe.weight"},
    "openai-gpt": {"tokens_embed.weight", "positions_embed.weight"},
    "opt": {"decoder.embed_tokens.weight", "decoder.embed_positions.weight"},
    "xlm": {"embeddings.weight", "position_embeddings.weight", "layer_norm_emb.weight", "layer_norm_emb.bias"},
}


@pytest.mark.parametrize("model_type", EMBEDDINGS)
def test_embeddings_are_all_below_the_first_layer(model_type, checkpoint):
    parameters = load(checkpoint(model_type), freeze_embeddings=True).model.model.named_parameters()
    assert {name for name, value in parameters if not value.requires_grad} == EMBEDDINGS[model_type]


@pytest.mark.parametrize(("model_type", "reach"), [("gpt2", 1024), ("openai-gpt", 512), ("opt", 2048), ("xlm", 512)])
def test_positions_end_where_the_tables_end(model_type, reach, checkpoint):
    folder = checkpoint(model_type)
    load(folder, max_length=reach)
    with pytest.raises(InputError, match=f"positions for {reach} tokens"):
        load(folder, max_length=reach + 1)


@pytest.mark.parametrize("model_type", ["gpt2", "llama"])
def test_a_tokenizer_without_padding_pads_with_its_end_token(model_type, checkpoint):
    folder = checkpoint(model_type, padding="end", pad_token_id=None)
    assert load(folder).tokenizer.pad_token_id == 3
    learner = learner_of(Candidate(backbone=folder, head="last"))
    assert learner.scorer.backbone.model.get_input_embeddings().padding_idx is None
    with pytest.raises(InputError, match="neither a padding token nor an end token; name one as pad_token in"):
        load(checkpoint(model_type, padding="none", pad_token_id=None))


@pytest.mark.parametrize("model_type", ["roberta", "longformer", "bart", "llama"])
def test_a_config_without_padding_takes_that_of_the_tokenizer(model_type, checkpoint):
    ids, mask = example()
    folder = checkpoint(model_type, pad_token_id=None)
    found = states(load(folder), ids, mask)
    expected = states(load(checkpoint(model_type)), ids, mask)
    torch.testing.assert_close(found[mask == 1], expected[mask == 1], rtol=0, atol=1e-6)
    if model_type == "roberta":
        with pytest.raises(InputError, match="positions for 511 tokens"):
            load(folder, max_length=512)


def test_a_switch_of_dropout_is_not_a_rate(checkpoint):
    assert load(checkpoint("esm"), dropout=0.25).model.config.token_dropout is False
