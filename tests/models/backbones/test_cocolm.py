"""COCO-LM's encoder against a forward pass written out in loops, and its loading of released files."""

import json
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel

from data_prep.errors import InputError
from models.backbones.cocolm import CocolmConfig, CocolmModel, register, relative_buckets

Array = NDArray[np.float64]
IDS = [[0, 7, 9, 11, 2, 1, 1], [0, 5, 6, 7, 8, 9, 2], [4, 4, 4, 4, 4, 4, 4]]
MASK = [[1, 1, 1, 1, 1, 0, 0], [1] * 7, [0] * 7]
IMPLEMENTATIONS = ["eager", "sdpa"]


def tiny_config(**changes: Any) -> CocolmConfig:
    settings = {
        "vocab_size": 40,
        "hidden_size": 12,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 20,
        "max_position_embeddings": 24,
        "initializer_range": 0.5,
        "rel_pos_bins": 8,
        "max_rel_pos": 6,
    }
    return CocolmConfig(**(settings | changes))


def tiny_model(**changes: Any) -> CocolmModel:
    torch.manual_seed(3)
    model = CocolmModel(tiny_config(**changes)).eval()
    for parameter in model.parameters():  # biases and norms too: a forgotten one must show
        torch.nn.init.normal_(parameter, std=0.5)
    return model


def write_checkpoint(folder: Path, model: CocolmModel, *, prefix: str, extra: dict[str, torch.Tensor]) -> Path:
    """Write `model` as the released folders lie: config.json and pytorch_model.bin."""
    folder.mkdir()
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    torch.save(state | extra, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(model.config.to_dict() | {"model_type": "cocolm"}, default=str))
    return folder


# --- the encoder, written out --------------------------------------------------------------------------------------


@cache
def magnitude(distance: int, bins: int, max_rel_pos: int) -> int:
    """The bucket magnitude by comparing whole numbers: no logarithm, no rounding."""
    half = bins // 2
    exact = half // 2
    if distance < exact:
        return distance
    steps = half - 1 - exact
    more = 0  # the least m with (distance / exact) ** steps <= ((max_rel_pos - 1) / exact) ** m
    while distance**steps * exact**more > (max_rel_pos - 1) ** more * exact**steps:
        more += 1
    return min(exact + more, half - 1)


def bucket(difference: int, *, bins: int, max_rel_pos: int, n_positions: int) -> int:
    sign = (difference > 0) - (difference < 0)
    return sign * magnitude(abs(difference), bins, max_rel_pos) + max(
        magnitude(distance, bins, max_rel_pos) for distance in range(n_positions)
    )


def norm(vector: Array, weights: dict[str, Array], name: str, eps: float) -> Array:
    mean = sum(vector) / len(vector)
    variance = sum((value - mean) ** 2 for value in vector) / len(vector)
    scaled = [(value - mean) / math.sqrt(variance + eps) for value in vector]
    return np.array(scaled) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def linear(vector: Array, weights: dict[str, Array], name: str) -> Array:
    rows = [sum(w * v for w, v in zip(row, vector, strict=True)) for row in weights[f"{name}.weight"]]
    return np.array(rows) + weights[f"{name}.bias"]


def written_out(model: CocolmModel, ids: list[int], mask: list[int], segments: list[int] | None = None) -> list[Array]:
    """Return the embeddings and each layer's output [tokens, hidden] of one row, in float64."""
    config: Any = model.config
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    eps, head_size = config.layer_norm_eps, config.hidden_size // config.num_attention_heads
    embedded = []
    for position, token in enumerate(ids):
        vector = weights["embeddings.word_embeddings.weight"][token]
        vector = vector + weights["embeddings.position_embeddings.weight"][position]
        if config.type_vocab_size:
            vector = vector + weights["embeddings.token_type_embeddings.weight"][segments[position] if segments else 0]
        embedded.append(norm(vector, weights, "embeddings.LayerNorm", eps) * mask[position])
    states = [np.array(embedded)]
    for number in range(config.num_hidden_layers):
        layer = f"encoder.layer.{number}"
        projected = [linear(vector, weights, f"{layer}.attention.self_attn.in_proj") for vector in states[-1]]
        outputs = []
        for query_at in range(len(ids)):
            context = np.zeros(config.hidden_size)
            for head in range(config.num_attention_heads):
                place = slice(head * head_size, (head + 1) * head_size)
                query = projected[query_at][: config.hidden_size][place] * head_size**-0.5
                exponents = np.zeros(len(ids))
                for key_at in range(len(ids)):
                    if not mask[key_at]:
                        continue
                    logit = float(query @ projected[key_at][config.hidden_size : 2 * config.hidden_size][place])
                    if config.rel_pos_bins:
                        row = bucket(
                            key_at - query_at,
                            bins=config.rel_pos_bins,
                            max_rel_pos=config.max_rel_pos,
                            n_positions=config.max_position_embeddings,
                        )
                        logit += weights["relative_attention_bias.weight"][row, head]
                    exponents[key_at] = math.exp(logit)
                for key_at in range(len(ids)):
                    if mask[key_at]:
                        value = projected[key_at][2 * config.hidden_size :][place]
                        context[place] += exponents[key_at] / exponents.sum() * value
            residual = states[-1][query_at] + linear(context, weights, f"{layer}.attention.self_attn.out_proj")
            attended = norm(residual, weights, f"{layer}.attention.LayerNorm", eps)
            wide = linear(attended, weights, f"{layer}.intermediate.dense")
            wide = np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in wide])
            outputs.append(
                norm(
                    attended + linear(wide, weights, f"{layer}.output.dense"), weights, f"{layer}.output.LayerNorm", eps
                )
            )
        states.append(np.array(outputs))
    return states


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"rel_pos_bins": 0}, {"type_vocab_size": 2}, {"layer_norm_eps": 0.3}, {"num_attention_heads": 1}],
    ids=["plain", "no relative bias", "segments", "large eps", "one head"],
)
def test_forward_equals_the_written_out_encoder(implementation: str, changes: dict[str, Any]) -> None:
    model = tiny_model(**changes).double()
    model.set_attn_implementation(implementation)
    segments = [[0, 0, 1, 1, 1, 0, 0]] * 3
    output = model(torch.tensor(IDS), torch.tensor(MASK), torch.tensor(segments), output_hidden_states=True)
    assert len(output.hidden_states) == 3
    assert output.hidden_states[-1] is output.last_hidden_state
    for row in range(3):
        expected = written_out(model, IDS[row], MASK[row], segments[row])
        for state, reference in zip(output.hidden_states, expected, strict=True):
            np.testing.assert_allclose(state[row].detach().numpy(), reference, rtol=0, atol=1e-10)


def test_without_mask_and_segments_every_token_counts_in_segment_0() -> None:
    model = tiny_model(type_vocab_size=2).double()
    output = model(torch.tensor(IDS[:1])).last_hidden_state[0].detach().numpy()
    np.testing.assert_allclose(output, written_out(model, IDS[0], [1] * 7)[-1], rtol=0, atol=1e-10)


# --- relative buckets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (0, 7),
        (1, 8),
        (-1, 6),
        (3, 10),
        (4, 11),  # the first distance that is not its own magnitude: ln 1 = 0
        (5, 12),
        (8, 12),  # ln 2 / ln 8 * 3 is 1 exactly: the last of its bucket
        (-8, 2),
        (9, 13),
        (16, 13),  # 2 exactly
        (17, 14),
        (32, 14),
        (-32, 0),
        (33, 14),
        (99, 14),  # beyond max_rel_pos: the last bucket
        (-99, 0),
    ],
)
def test_buckets_by_hand(difference: int, expected: int) -> None:
    # half = 8, exact = 4, (33 - 1) / 4 = 8, three further steps; the lowest is -7
    assert relative_buckets(100, bins=16, max_rel_pos=33)[difference + 99] == expected


@pytest.mark.parametrize(
    ("n_positions", "bins", "max_rel_pos"),
    [
        (512, 64, 256),
        (512, 32, 128),
        (64, 16, 33),
        (10, 64, 256),
        (40, 10, 9),
        (400, 36, 26),
        (512, 64, 129),
        (20, 4, 3),
    ],
)
def test_buckets_equal_those_found_without_logarithms(n_positions: int, bins: int, max_rel_pos: int) -> None:
    found = relative_buckets(n_positions, bins=bins, max_rel_pos=max_rel_pos).tolist()
    expected = [
        bucket(difference, bins=bins, max_rel_pos=max_rel_pos, n_positions=n_positions)
        for difference in range(1 - n_positions, n_positions)
    ]
    assert found == expected
    assert min(found) == 0
    assert max(found) < bins


def test_shift_is_the_minimum_over_all_positions_of_the_model_not_of_the_text() -> None:
    assert relative_buckets(3, bins=16, max_rel_pos=33).tolist() == [0, 1, 2, 3, 4]
    model = tiny_model()
    short = model.relative_attention_bias(torch.arange(3))
    whole = model.relative_attention_bias(torch.arange(24))
    assert short.shape == (3, 3, 3)
    torch.testing.assert_close(short, whole[:, :3, :3], rtol=0, atol=0)


# --- padding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_padding_changes_nothing(implementation: str) -> None:
    model = tiny_model()
    model.set_attn_implementation(implementation)
    batch = model(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state
    alone = model(torch.tensor(IDS[:1])[:, :5], torch.ones(1, 5)).last_hidden_state
    torch.testing.assert_close(batch[:1, :5], alone, rtol=0, atol=1e-6)
    other = torch.tensor(IDS)
    other[0, 5:] = 33
    torch.testing.assert_close(model(other, torch.tensor(MASK)).last_hidden_state, batch, rtol=0, atol=0)


def test_padded_positions_are_zeros_behind_the_embeddings() -> None:
    model = tiny_model(hidden_dropout_prob=0.5).train()
    embedded = model(torch.tensor(IDS), torch.tensor(MASK), output_hidden_states=True).hidden_states[0]
    assert not embedded[0, 5:].any()
    assert not embedded[2].any()
    assert embedded[0, :5].any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_row_of_nothing_but_padding_stays_finite_with_its_gradients(implementation: str) -> None:
    model = tiny_model()
    model.set_attn_implementation(implementation)
    attended: list[torch.Tensor] = []
    attention = model.encoder.layer[0].attention.self_attn
    attention.out_proj.register_forward_pre_hook(lambda _, inputs: attended.append(inputs[0]))
    output = model(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state
    output.square().sum().backward()
    assert not attended[0][2].any()
    assert attended[0][:2].any()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_missing_keys_have_the_defaults_of_the_released_code(tmp_path: Path) -> None:
    register()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cocolm"}))
    config = AutoConfig.from_pretrained(tmp_path)
    assert (config.rel_pos_bins, config.layer_norm_eps, config.layer_norm_type) == (0, 1e-12, "post")


def test_more_tokens_than_positions_are_refused() -> None:
    with pytest.raises(InputError, match="24 positions, found 25 tokens"):
        tiny_model()(torch.zeros(1, 25, dtype=torch.long))


# --- training ------------------------------------------------------------------------------------------------------


def gradients(model: CocolmModel) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state.sin().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def test_every_parameter_learns_whatever_the_attention_and_checkpointing() -> None:
    model = tiny_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train()
    model.set_attn_implementation("eager")
    reference = gradients(model)
    assert all(gradient.any() for gradient in reference.values())
    assert not reference["embeddings.word_embeddings.weight"][0].any()  # the padding index of the released model
    model.gradient_checkpointing_enable()
    calls: list[int] = []
    model.encoder.layer[0].intermediate.register_forward_hook(lambda *_: calls.append(0))
    for implementation in IMPLEMENTATIONS:
        model.set_attn_implementation(implementation)
        for name, gradient in gradients(model).items():
            torch.testing.assert_close(gradient, reference[name], rtol=1e-4, atol=1e-4, msg=name)
    assert len(calls) == 4  # forward and again in backward, for both


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("key", ["hidden_dropout_prob", "attention_probs_dropout_prob"])
def test_each_dropout_acts_in_training_only(key: str, implementation: str) -> None:
    ids = torch.tensor(IDS)
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, quiet = tiny_model(**(off | {key: 0.5})), tiny_model(**off)
    model.set_attn_implementation(implementation)
    quiet.set_attn_implementation(implementation)
    expected = quiet(ids).last_hidden_state
    torch.testing.assert_close(model(ids).last_hidden_state, expected, rtol=0, atol=0)
    torch.testing.assert_close(quiet.train()(ids).last_hidden_state, expected, rtol=0, atol=0)
    assert (model.train()(ids).last_hidden_state - expected).abs().max() > 0.1


def test_the_dropout_behind_attention_is_the_one_of_its_probabilities() -> None:
    layer = tiny_model(hidden_dropout_prob=0.25, attention_probs_dropout_prob=0.5).train().encoder.layer[0].attention
    torch.nn.init.zeros_(layer.self_attn.out_proj.weight)
    torch.nn.init.ones_(layer.self_attn.out_proj.bias)
    behind: list[torch.Tensor] = []
    layer.LayerNorm.register_forward_pre_hook(lambda _, inputs: behind.append(inputs[0]))
    layer(torch.zeros(2, 7, 12), torch.zeros(2, 1, 1, 7), torch.ones(2))
    assert behind[0].unique().tolist() == [0.0, 2.0]  # kept values are divided by 1 - 0.5


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_bf16_autocast_stays_close(implementation: str) -> None:
    model = tiny_model()
    model.set_attn_implementation(implementation)
    exact = model(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state
    assert rounded.isfinite().all()
    assert 0 < (rounded.float() - exact).abs().max() < 0.1 * exact.abs().max()


# --- files ---------------------------------------------------------------------------------------------------------

HEADS = {
    "lm_head.dense.weight": torch.ones(2, 2),
    "scl_head.dense.bias": torch.ones(2),
    "binary_head.weight": torch.ones(2),
    "cocolm.pooler.dense.weight": torch.ones(2, 2),
}


def load(folder: Path, **settings: Any) -> tuple[CocolmModel, dict[str, Any]]:
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True, **settings)
    return model.eval(), report


@pytest.mark.parametrize("extra", [{}, HEADS], ids=["encoder", "with heads"])
@pytest.mark.parametrize("prefix", ["cocolm.", ""], ids=["prefixed", "bare"])
def test_released_files_load_whole(tmp_path: Path, prefix: str, extra: dict[str, torch.Tensor]) -> None:
    register()
    register()
    model = tiny_model()
    found, report = load(write_checkpoint(tmp_path / "released", model, prefix=prefix, extra=extra))
    assert isinstance(found, CocolmModel)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, rtol=0, atol=0)
    assert found.relative_attention_bias.buckets.equal(relative_buckets(24, bins=8, max_rel_pos=6))
    expected = model(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state
    torch.testing.assert_close(found(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state, expected)


@pytest.mark.parametrize("prefix", ["cocolm.", ""], ids=["prefixed", "bare"])
def test_missing_and_foreign_weights_are_reported(tmp_path: Path, prefix: str) -> None:
    register()
    model = tiny_model()
    folder = write_checkpoint(tmp_path / "cut", model, prefix=prefix, extra={f"{prefix}strange.weight": torch.ones(1)})
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    del state[f"{prefix}relative_attention_bias.weight"], state[f"{prefix}encoder.layer.1.output.dense.bias"]
    torch.save(state, folder / "pytorch_model.bin")
    report = load(folder)[1]
    assert set(report["missing_keys"]) == {"relative_attention_bias.weight", "encoder.layer.1.output.dense.bias"}
    assert len(report["unexpected_keys"]) == 1


def test_parameters_bear_the_released_names_and_shapes() -> None:
    hidden, wide, layer = 12, 20, {}
    for number in range(2):
        names = {
            "attention.self_attn.in_proj.weight": (3 * hidden, hidden),
            "attention.self_attn.in_proj.bias": (3 * hidden,),
            "attention.self_attn.out_proj.weight": (hidden, hidden),
            "attention.self_attn.out_proj.bias": (hidden,),
            "attention.LayerNorm.weight": (hidden,),
            "attention.LayerNorm.bias": (hidden,),
            "intermediate.dense.weight": (wide, hidden),
            "intermediate.dense.bias": (wide,),
            "output.dense.weight": (hidden, wide),
            "output.dense.bias": (hidden,),
            "output.LayerNorm.weight": (hidden,),
            "output.LayerNorm.bias": (hidden,),
        }
        layer |= {f"encoder.layer.{number}.{name}": shape for name, shape in names.items()}
    common = {
        "embeddings.word_embeddings.weight": (40, hidden),
        "embeddings.position_embeddings.weight": (24, hidden),
        "embeddings.LayerNorm.weight": (hidden,),
        "embeddings.LayerNorm.bias": (hidden,),
    }
    bias = {"relative_attention_bias.weight": (8, 3)}
    segments = {"embeddings.token_type_embeddings.weight": (2, hidden)}
    for changes, expected in [
        ({}, common | bias | layer),
        ({"rel_pos_bins": 0, "type_vocab_size": 2}, common | segments | layer),
    ]:
        found = {name: tuple(value.shape) for name, value in tiny_model(**changes).state_dict().items()}
        assert found == expected


def test_kept_layers_end_where_the_whole_model_passes(tmp_path: Path) -> None:
    register()
    model = tiny_model()
    folder = write_checkpoint(tmp_path / "whole", model, prefix="cocolm.", extra={})
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 1
    kept, report = load(folder, config=config)
    assert not report["missing_keys"]
    states = model(torch.tensor(IDS), torch.tensor(MASK), output_hidden_states=True).hidden_states
    torch.testing.assert_close(kept(torch.tensor(IDS), torch.tensor(MASK)).last_hidden_state, states[1])


def test_saved_model_loads_again(tmp_path: Path) -> None:
    register()
    model = tiny_model(type_vocab_size=2, need_pooler=True)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    found, report = load(tmp_path)
    assert not report["missing_keys"]
    assert found.config.need_pooler
    assert found.config.to_dict().items() >= {"rel_pos_bins": 8, "max_rel_pos": 6, "type_vocab_size": 2}.items()
    ids = torch.tensor(IDS)
    torch.testing.assert_close(found(ids).last_hidden_state, model(ids).last_hidden_state)


def test_vocabulary_can_grow() -> None:
    model = tiny_model()
    before = model(torch.tensor(IDS)).last_hidden_state
    model.resize_token_embeddings(43)
    assert model.get_input_embeddings().weight.shape == (43, 12)
    assert model.config.vocab_size == 43
    torch.testing.assert_close(model(torch.tensor(IDS)).last_hidden_state, before)
    model(torch.tensor([[42]]))


def test_fresh_weights_follow_the_initializer_range() -> None:
    torch.manual_seed(0)
    model = CocolmModel(tiny_config(vocab_size=2000, initializer_range=0.02))
    words = model.get_input_embeddings().weight
    assert words[1:].std().item() == pytest.approx(0.02, rel=0.05)
    assert not words[0].any()
    assert not model.encoder.layer[0].attention.self_attn.in_proj.bias.any()
    assert (model.encoder.layer[0].output.LayerNorm.weight == 1).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer_norm_type": "pre"}, "layer_norm_type must be 'post'.*'pre'"),
        ({"rel_pos_bins": 7}, "even number from 4 on, found 7"),
        ({"rel_pos_bins": 2}, "even number from 4 on, found 2"),
        ({"rel_pos_bins": 8, "max_rel_pos": 3}, "max_rel_pos must be 4 or more.*found 3"),
        ({"hidden_act": "relu"}, "hidden_act must be 'gelu', found 'relu'"),
        ({"num_attention_heads": 5}, "hidden_size=12 must be a multiple of num_attention_heads=5"),
        ({"hidden_act": "relu", "layer_norm_type": "pre"}, "layer_norm_type.*hidden_act"),
    ],
)
@pytest.mark.parametrize("make", [tiny_config, tiny_model])
def test_configs_without_a_meaning_are_refused(make: Callable[..., Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**changes)
