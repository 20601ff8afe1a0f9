import numpy as np
import pytest
import torch
from torch import nn

from models.candidate import Candidate
from models.parts.adversary import ADVERSARIES
from models.parts.build import new_adversary

ACTIVE = sorted(set(ADVERSARIES) - {"none"})


def build(name, *, embedding=None, matrices=(), **settings):
    embedding = nn.Parameter(torch.zeros(1, 1)) if embedding is None else embedding
    return new_adversary(Candidate(adversary=name, **settings), embedding=embedding, matrices=matrices)


def parameter(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = nn.Parameter(torch.randn(*shape, generator=generator))
    found.grad = torch.randn(*shape, generator=generator)
    return found


def perturbation(adversary, weight):
    before = weight.detach().clone()
    with adversary.perturbed():
        return (weight.detach() - before).numpy()


def test_fgm_moves_used_embeddings_up_the_gradient_of_a_quadratic():
    table = nn.Parameter(torch.randn(9, 4, generator=torch.Generator().manual_seed(1)))
    ids, goal = torch.tensor([2, 5, 5]), torch.ones(3, 4)
    (0.5 * (table[ids] - goal) ** 2).sum().backward()
    weight = table.detach().numpy()
    gradient = np.zeros((9, 4))
    gradient[2], gradient[5] = weight[2] - 1, 2 * (weight[5] - 1)
    expected = 0.25 * np.linalg.norm(weight[[2, 5]]) * gradient / np.linalg.norm(gradient)
    found = perturbation(build("fgm", embedding=table, adversary_eps=0.25), table)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not found[[0, 1, 3, 4, 6, 7, 8]].any()


def test_fgm_is_the_same_with_rows_that_never_occur():
    few = parameter(5, 3)
    many = nn.Parameter(torch.cat([few.detach(), torch.ones(50, 3)]))
    many.grad = torch.cat([few.grad, torch.zeros(50, 3)])
    found = [perturbation(build("fgm", embedding=table), table)[:5] for table in (few, many)]
    np.testing.assert_allclose(*found, atol=1e-7)


@pytest.mark.parametrize(("rate", "eps"), [(0.01, 0.5), (1.0, 0.01), (0.1, 0.05)])
def test_awp_is_a_step_along_the_gradient_within_a_share_of_each_weight(rate, eps):
    matrices = [parameter(6, 5), parameter(3, 2, 4, seed=1)]
    adversary = build("awp", matrices=matrices, adversary_lr=rate, adversary_eps=eps)
    for matrix in matrices:
        weight, gradient = matrix.detach().numpy().astype(float), matrix.grad.numpy().astype(float)
        step = rate * np.linalg.norm(weight) * gradient / np.linalg.norm(gradient)
        limit = eps * np.abs(weight)
        found = perturbation(adversary, matrix)
        np.testing.assert_allclose(found, np.clip(step, -limit, limit), atol=1e-6)
        assert np.linalg.norm(found) <= eps * np.linalg.norm(weight) + 1e-6


def test_awp_without_a_limit_in_reach_moves_by_the_share_of_the_norm():
    matrix = parameter(6, 5)
    found = perturbation(build("awp", matrices=[matrix], adversary_lr=0.02, adversary_eps=1e6), matrix)
    assert np.linalg.norm(found) == pytest.approx(0.02 * matrix.norm().item(), rel=1e-5)


@pytest.mark.parametrize("name", ACTIVE)
def test_weights_come_back_bit_by_bit_even_after_an_error(name):
    weight = parameter(50, 50)
    adversary = build(name, embedding=weight, matrices=[weight])
    before = weight.detach().clone()

    def fail():
        with adversary.perturbed():
            assert not torch.equal(weight, before)
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        fail()
    assert torch.equal(weight, before)


@pytest.mark.parametrize("name", ACTIVE)
@pytest.mark.parametrize("gradient", [None, torch.zeros(3, 3), torch.full((3, 3), torch.inf), torch.eye(3) / 0])
def test_no_usable_gradient_no_perturbation(name, gradient):
    weight = nn.Parameter(torch.ones(3, 3))
    weight.grad = gradient
    assert not perturbation(build(name, embedding=weight, matrices=[weight]), weight).any()


@pytest.mark.parametrize("name", ACTIVE)
def test_the_scale_of_the_gradient_does_not_matter(name):
    weight = parameter(4, 4)
    adversary = build(name, embedding=weight, matrices=[weight])
    plain = perturbation(adversary, weight)
    weight.grad *= 65536.0
    np.testing.assert_allclose(perturbation(adversary, weight), plain, rtol=1e-5)


def test_acts_from_its_epoch_on():
    for name in ACTIVE:
        adversary = build(name, adversary_start=1.5)
        assert [adversary.acts(epoch) for epoch in (0.0, 1.49, 1.5, 3.0)] == [False, False, True, True]
    assert not build("none").acts(99.0)
