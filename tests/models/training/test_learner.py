import functools
import logging

import numpy as np
import pytest
import torch
from torch import nn

from data_prep.errors import InputError
from models.candidate import Candidate
from models.text.batches import Batch
from models.training.out_of_memory import MemoryRetry
from small_models import learner_of

STEPS = 3
EXACT = {"dropout": 0.0, "precision": "fp32", "warmup": 0.0}
FAMILIES = ["albert-xxlarge-v2", "deberta-large", "funnel-large", "bart-large", "cocolm-base"]


@pytest.fixture
def learn(tiny_bert):
    """Return a function that builds a learner and lets it take some steps."""

    def run(batches, backbone=tiny_bert, **settings):
        learner = learner_of(Candidate(backbone=backbone, **{**EXACT, **settings}))
        torch.manual_seed(1)
        for number, batch in enumerate(batches):
            learner.step(batch, 1.0, epoch=number / 2)
        return learner

    return run


def batches_of(n=STEPS, *, packed=False, rows=12, tokens=9):
    generator = torch.Generator().manual_seed(5)

    def draw():
        ids = torch.randint(5, 40, (rows, tokens), generator=generator)
        n_rows = 2 * rows if packed else rows
        starts = torch.stack([torch.arange(n_rows) // 2, torch.arange(n_rows) % 4, torch.full((n_rows,), 3)], dim=1)
        return Batch(
            input_ids=ids,
            attention_mask=(torch.arange(tokens) < torch.arange(rows).unsqueeze(1) % 3 + tokens - 2).long(),
            rows=np.arange(n_rows),
            targets=torch.rand(n_rows, generator=generator),
            spans=starts if packed else None,
            groups=torch.arange(n_rows) // 6,
        )

    return [draw() for _ in range(n)]


def weights_of(learner):
    return {name: value.clone() for name, value in learner.scorer.state_dict().items()}


def moved(learner, before):
    return {name for name, value in weights_of(learner).items() if not torch.equal(value, before[name])}


def gradients(learner, batch, monkeypatch):
    """Return the gradients that a step follows."""
    found = []

    def follow(optimizer):
        found.extend(parameter.grad.clone() for parameter in learner.trained)

    with monkeypatch.context() as patch:
        patch.setattr(learner.gradients.loss_scaler, "step", follow)
        learner.step(batch, 1.0, epoch=5.0)
    return found


def plain_gradients(learner, batch):
    loss = learner.gradients.loss(learner.scorer(batch), batch.targets, batch.groups)
    return torch.autograd.grad(loss, learner.trained)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("n_parts", [2, 5, 100])
@pytest.mark.parametrize("loss", ["mse", "bce"])
def test_accumulated_gradients_are_those_of_the_whole_batch(learn, monkeypatch, packed, n_parts, loss):
    learner = learn([], accumulation=n_parts, clip_norm=None, loss=loss)
    (batch,) = batches_of(1, packed=packed)
    for found, expected in zip(gradients(learner, batch, monkeypatch), plain_gradients(learner, batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("packed", [False, True])
def test_fgm_adds_and_awp_follows_the_gradient_at_the_perturbed_weights(learn, monkeypatch, packed, accumulation):
    (batch,) = batches_of(1, packed=packed)
    for name in ("fgm", "awp"):
        learner = learn([], adversary=name, adversary_start=0.0, clip_norm=None, accumulation=accumulation)
        before = weights_of(learner)
        plain = plain_gradients(learner, batch)
        for parameter, gradient in zip(learner.trained, plain, strict=True):
            parameter.grad = gradient
        with learner.gradients.adversary.perturbed():
            there = plain_gradients(learner, batch)
        learner.scorer.zero_grad()
        expected = [a + b for a, b in zip(plain, there, strict=True)] if name == "fgm" else there
        found = gradients(learner, batch, monkeypatch)
        for mine, theirs, without in zip(found, expected, plain, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=2e-6)
            assert not torch.equal(mine, without)
        assert not moved(learner, before), "the weights are back before the optimiser's step"


@pytest.mark.parametrize("name", ["fgm", "awp"])
def test_an_adversary_does_nothing_before_its_epoch(learn, name):
    batches = batches_of()
    plain = weights_of(learn(batches, dropout=0.1))
    assert not moved(learn(batches, dropout=0.1, adversary=name, adversary_start=1.5), plain)
    assert moved(learn(batches, dropout=0.1, adversary=name, adversary_start=1.0), plain)


def test_an_error_in_the_perturbed_pass_leaves_the_weights_as_they_were(learn, monkeypatch):
    learner = learn([], adversary="awp", adversary_start=0.0, mixout=0.3)
    before, whole, calls = weights_of(learner), learner.scorer.forward, []

    def fail_in_the_second(batch):
        calls.append(batch)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return whole(batch)

    monkeypatch.setattr(learner.scorer, "forward", fail_in_the_second)
    with pytest.raises(RuntimeError, match="out of memory"):
        learner.step(batches_of(1)[0], 1.0, epoch=1.0)
    assert not moved(learner, before)
    assert all(isinstance(part.weight, nn.Parameter) for part in learner.gradients.mixout.linears)


def test_fgm_perturbs_frozen_embeddings_that_still_do_not_learn(learn):
    batches = batches_of()
    frozen = {"freeze_embeddings": True, "freeze_layers": 1}
    before = weights_of(learn([], **frozen))
    plain, learner = learn(batches, **frozen), learn(batches, **frozen, adversary="fgm", adversary_start=0.0)
    assert moved(learner, weights_of(plain))
    assert moved(learner, before) == moved(plain, before)
    assert not any("embeddings" in name for name in moved(learner, before))


SETTINGS = [{"mixout": 0.3}, {"adversary": "fgm"}, {"adversary": "awp"}, {"mixout": 0.3, "adversary": "awp"}]


def check_checkpointing(learn, settings):
    start = {"adversary_start": 0.0} if "adversary" in settings else {}
    settings = {**settings, **start, "dropout": 0.1}
    batches = batches_of(2, rows=4)
    kept, again = (learn(batches, **settings, checkpointing=value) for value in (False, True))
    assert list(kept.scorer.state_dict()) == list(again.scorer.state_dict())
    assert not moved(again, weights_of(kept))
    return kept


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_checkpointing_gives_the_same_numbers(learn, settings):
    kept = check_checkpointing(learn, settings)
    assert moved(kept, weights_of(learn(batches_of(2, rows=4), dropout=0.1)))


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointing_gives_the_same_numbers_in_every_family(learn, tiny, family):
    check_checkpointing(learn, {"backbone": tiny(family), "mixout": 0.3, "adversary": "awp"})


@pytest.mark.parametrize("settings", [*SETTINGS, {"ema": 0.9}], ids=str)
def test_fp16_survives_gradients_that_overflow(learn, settings, monkeypatch):
    monkeypatch.setattr(torch.amp, "GradScaler", functools.partial(torch.amp.GradScaler, init_scale=1e30))
    start = {"adversary_start": 0.0} if "adversary" in settings else {}
    learner = learn([], precision="fp16", **settings, **start)
    before = weights_of(learner)
    learner.step(batches_of(1)[0], 1.0)
    assert not moved(learner, before), "a step whose gradients overflow is not taken"
    learner.gradients.loss_scaler.update(16.0)
    learner.step(batches_of(1)[0], 1.0)
    assert len(moved(learner, before)) > 20
    assert all(value.isfinite().all() for value in weights_of(learner).values())


def test_mixout_acts_on_backbone_and_head_in_training_only(learn):
    learner = learn([], mixout=0.5, head="attention")
    linears = [part for part in learner.scorer.modules() if isinstance(part, nn.Linear)]
    assert {id(part) for part in learner.gradients.mixout.linears} == {id(part) for part in linears}
    assert len(linears) > 12
    learner.step(batches_of(1)[0], 1.0)
    (batch,) = batches_of(1)
    learner.scorer.eval()
    plain = learn([], head="attention")
    plain.scorer.load_state_dict(learner.scorer.state_dict())
    plain.scorer.eval()
    assert torch.equal(learner.scorer(batch), plain.scorer(batch))


def test_mixout_draws_another_mask_in_each_step_and_keeps_no_copies_in_the_state(learn):
    batches = batches_of()
    learner = learn(batches, mixout=0.5)
    assert moved(learner, weights_of(learn(batches)))
    plain = learn(batches)

    def shapes(state):
        return {name: value.shape for name, value in state["scorer"].items()}, set(state)

    assert shapes(learner.state()) == shapes(plain.state())


def test_a_head_with_rate_0_stays_and_is_not_in_the_optimiser(learn):
    learner = learn([], head_lr=0.0, head_layers=1, head_width=8)
    before = weights_of(learner)
    held = {id(parameter) for group in learner.optimizer.param_groups for parameter in group["params"]}
    assert not held & {id(parameter) for parameter in learner.scorer.head.parameters()}
    learner.step(batches_of(1)[0], 1.0)
    names = moved(learner, before)
    assert any(name.startswith("backbone.") for name in names)
    assert not any(name.startswith("head.") for name in names)


def test_the_average_predicts_and_does_not_touch_training(learn):
    batches = batches_of(6)
    histories, learner, plain = [], learn([], ema=0.5), learn([])
    for batch in batches:
        learner.step(batch, 1.0)
        histories.append(weights_of(learner))
    for batch in batches:
        plain.step(batch, 1.0)
    assert not moved(learner, weights_of(plain))
    shares = 0.5 ** np.arange(5, -1, -1)
    for name, value in learner.weights().items():
        expected = sum(share * history[name].double() for share, history in zip(shares, histories, strict=True))
        torch.testing.assert_close(value.double(), expected / shares.sum(), rtol=0, atol=1e-6)
    assert not moved(learner, weights_of(plain))
    adopted = learner.weights()
    learner.adopt(adopted)
    assert all(torch.equal(value, adopted[name]) for name, value in learner.weights().items())


def test_frozen_weights_are_not_averaged(learn):
    learner = learn(batches_of(2), ema=0.5, freeze_embeddings=True, freeze_layers=2)
    assert len(learner.average.averages) == len(learner.trained) == len(list(learner.scorer.head.parameters()))


def test_second_moments_decay_at_beta2(learn):
    assert {group["betas"] for group in learn([], beta2=0.98).optimizer.param_groups} == {(0.9, 0.98)}
    (batch,) = batches_of(1)
    learner = learn([], beta2=0.9, clip_norm=None)
    gradient = plain_gradients(learner, batch)[0]
    learner.step(batch, 1.0)
    second = learner.optimizer.state[learner.trained[0]]["exp_avg_sq"]
    torch.testing.assert_close(second, 0.1 * gradient**2)


def test_a_step_scales_the_rate_of_each_group_from_its_own_peak(learn):
    learner = learn([], layer_decay=0.5)
    peaks = [group["lr"] for group in learner.optimizer.param_groups]
    assert len(set(peaks)) == 4
    for batch, share in zip(batches_of(2), (0.5, 0.1), strict=True):
        learner.step(batch, share)
        rates = [group["lr"] for group in learner.optimizer.param_groups]
        assert rates == pytest.approx([peak * share for peak in peaks])


def test_fresh_layers_and_the_head_depend_on_the_seed(learn):
    first, same, other = (weights_of(learn([], reinit_layers=1, seed=seed)) for seed in (1, 1, 2))
    assert all(torch.equal(value, same[name]) for name, value in first.items())
    changed = {name for name, value in first.items() if not torch.equal(value, other[name])}
    assert {name.split(".layer.")[-1][0] for name in changed if name.startswith("backbone.")} == {"1"}
    plain = weights_of(learn([], seed=1))
    assert all(torch.equal(value, plain[name]) for name, value in first.items() if name.startswith("head."))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_embedding_that_fgm_perturbs_is_the_one_that_every_family_uses(learn, tiny, family):
    (batch,) = batches_of(1, rows=3)
    learner = learn([], backbone=tiny(family), adversary="fgm")
    (table,) = learner.gradients.adversary.weights
    learner.gradients.loss(learner.scorer(batch), batch.targets).backward()
    assert (table.grad != 0).any(dim=1).sum() >= len(batch.input_ids[batch.attention_mask == 1].unique()) - 1


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError("Unable to allocate 3.1 GiB"),
]
COMPARING = ["pearson", "mse_pearson", "ranking"]


def run_out(monkeypatch, learner, *, above, error=OUT_OF_MEMORY[0], passes=0):
    """Let forward passes over more than `above` texts fail, after so many that do not.

    Returns the sizes of all; 0 where memory is given back.
    """
    whole, sizes = learner.scorer.forward, []

    def forward(batch):
        sizes.append(len(batch.input_ids))
        outputs = whole(batch)
        if sizes[-1] > above and len(sizes) > passes:
            raise error
        return outputs

    monkeypatch.setattr(learner.scorer, "forward", forward)
    learner.retry.free = lambda: sizes.append(0)  # to collect garbage takes 0.2 s a time
    return sizes


@pytest.mark.parametrize(
    ("settings", "error"),
    [({}, error) for error in OUT_OF_MEMORY]
    + [
        ({changed: value}, OUT_OF_MEMORY[0])
        for changed, value in (("loss", "ranking"), ("accumulation", 2), ("recipe", "packed"))
    ],
    ids=str,
)
def test_a_step_that_ran_out_of_memory_is_that_of_micro_batches_set_by_hand(
    learn, monkeypatch, settings, error, caplog
):
    settings = {"dropout": 0.1, "mixout": 0.2, **settings}
    batches = batches_of(3, packed="recipe" in settings)
    starved, by_hand = learn([], **settings), learn([], **settings)
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        sizes = run_out(patch, starved, above=4, error=error)
        torch.manual_seed(3)
        for batch in batches:
            starved.step(batch, 1.0)
    by_hand.retry.micro_batches = starved.retry.micro_batches
    assert starved.retry.micro_batches == (2 if settings.get("accumulation") else 4)
    assert max(sizes[-3:]) <= 4
    assert f"continuing with {starved.retry.micro_batches} micro-batches" in caplog.text
    torch.manual_seed(3)
    for batch in batches:
        by_hand.step(batch, 1.0)
    assert not moved(starved, weights_of(by_hand))
    assert starved.losses.state() == by_hand.losses.state()


@pytest.mark.parametrize("adversary", ["fgm", "awp"])
@pytest.mark.parametrize("passes", [0, 1])
def test_running_out_of_memory_in_the_perturbed_pass_changes_nothing(learn, monkeypatch, adversary, passes):
    settings = {"dropout": 0.1, "adversary": adversary, "adversary_start": 0.0}
    starved, by_hand = learn([], **settings), learn([], **settings)
    (batch,) = batches_of(1)
    with monkeypatch.context() as patch:
        run_out(patch, starved, above=6, passes=passes)
        torch.manual_seed(3)
        starved.step(batch, 1.0)
    by_hand.retry.micro_batches = 2
    torch.manual_seed(3)
    by_hand.step(batch, 1.0)
    assert starved.retry.micro_batches == 2
    assert not moved(starved, weights_of(by_hand))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize("loss", ["mse", "gaussian_nll", *COMPARING])
def test_micro_batches_keep_the_gradients_of_the_effective_batch(learn, monkeypatch, loss, accumulation, packed):
    (batch,) = batches_of(1, packed=packed)
    learner = learn([], loss=loss, accumulation=accumulation, clip_norm=None)
    whole = gradients(learner, batch, monkeypatch)
    for micro_batches in (2, 3, 12):
        learner.retry.micro_batches = micro_batches
        for found, expected in zip(gradients(learner, batch, monkeypatch), whole, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    assert any(gradient.abs().max() > 1e-3 for gradient in whole)


@pytest.mark.parametrize("loss", COMPARING)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_both_passes_of_a_loss_that_compares_rows_see_the_same_outputs(learn, monkeypatch, loss, precision):
    learner = learn([], loss=loss, dropout=0.2, mixout=0.3, precision=precision)
    learner.retry.micro_batches, seen, whole = 3, [], learner.scorer.forward
    monkeypatch.setattr(learner.scorer, "forward", lambda batch: seen.append(whole(batch)) or seen[-1])
    learner.step(batches_of(1)[0], 1.0)
    assert len(seen) == 6
    for first, second in zip(seen[:3], seen[3:], strict=True):
        assert second.requires_grad
        assert not first.requires_grad
        torch.testing.assert_close(first, second.detach(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("loss", ["mse", "pearson"])
def test_a_single_text_that_does_not_fit_is_an_error_that_says_what_to_do(learn, monkeypatch, loss):
    learner = learn([], loss=loss)
    before = weights_of(learner)
    sizes = run_out(monkeypatch, learner, above=0)
    with pytest.raises(InputError, match=r"out of memory with a single text .*CUDA out of memory.*max_length"):
        learner.step(batches_of(1)[0], 1.0)
    assert learner.retry.micro_batches == 16, "12 texts"
    assert sizes == [12, 0, 6, 0, 3, 0, 2, 0, 1, 0], "given back before each try"
    assert not moved(learner, before)
    assert all(parameter.grad is None for parameter in learner.trained)


def test_other_errors_are_not_taken_for_a_lack_of_memory(learn, monkeypatch):
    learner = learn([])
    sizes = run_out(monkeypatch, learner, above=0, error=RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes"):
        learner.step(batches_of(1)[0], 1.0)
    assert len(sizes) == learner.retry.micro_batches == 1


def test_an_error_of_the_optimiser_is_not_tried_again(learn, monkeypatch):
    learner = learn([])
    monkeypatch.setattr(learner.optimizer, "step", lambda *_: (_ for _ in ()).throw(OUT_OF_MEMORY[0]))
    with pytest.raises(torch.cuda.OutOfMemoryError):
        learner.step(batches_of(1)[0], 1.0)


def test_the_state_holds_the_micro_batches_and_the_losses(learn):
    learner, other = learn(batches_of(2)), learn([])
    learner.retry.micro_batches = 4
    other.load_state(learner.state())
    assert other.retry.micro_batches == 4
    assert other.losses.state() == learner.losses.state()
    assert len(other.losses.state()["recent"]) == 2


def test_where_a_larger_share_is_available_nothing_is_done_in_smaller_parts():
    def full(micro_batches):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    retry = MemoryRetry(halve=False, forget=lambda: None)
    with pytest.raises(MemoryError, match="a larger share of the machine is available"):
        retry.retry_smaller(full, n_texts=4)
    assert retry.micro_batches == 1
