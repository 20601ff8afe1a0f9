"""The device and the precision that `auto` stands for, and what a GPU is told, with fakes."""

import numpy as np
import pytest
import torch

from models.text.batches import Batch
from models.training.devices import choose_precision, find_device, find_precision, make_repeatable
from models.training.optimizer import ParameterGroup, new_optimizer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        pytest.param({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, "bf16", id="amx"),
        pytest.param({"cpu_name": "AMD EPYC 9R14", "avx512_bf16": True, "amx_bf16": False}, "bf16", id="amd"),
        pytest.param({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "fp32", id="intel-no-amx"),
        pytest.param({"cpu_name": "AMD EPYC 7543", "avx512_bf16": False}, "fp32", id="older-amd"),
        pytest.param({"architecture": "aarch64"}, "fp32", id="another-architecture"),
    ],
)
def test_a_cpu_computes_in_bf16_where_that_is_faster(monkeypatch, capabilities, precision):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)

    assert find_precision("auto", CPU) == precision


def test_a_torch_that_cannot_ask_the_cpu_computes_in_fp32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    chosen, reason = choose_precision(CPU)

    assert chosen == "fp32"
    assert "does not tell whether this CPU" in reason


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16"), (False, "fp16")])
def test_an_older_gpu_computes_in_fp16(monkeypatch, supported, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)

    assert find_precision("auto", torch.device("cuda")) == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_was_asked_for_stays(precision):
    assert find_precision(precision, CPU) == precision


@pytest.mark.parametrize(
    ("cuda", "mps", "device"),
    [(True, False, "cuda"), (True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_is_the_gpu_where_there_is_one(monkeypatch, cuda, mps, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    assert find_device("auto").type == device


@pytest.mark.parametrize(
    ("device", "supported", "precision", "why"),
    [
        ("cuda", True, "bf16", "multiplies bf16 in hardware"),
        ("cuda", False, "fp16", "has no bf16; the loss is scaled"),
        ("mps", True, "fp32", "never tried on mps"),
    ],
)
def test_auto_says_why(monkeypatch, device, supported, precision, why):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)
    chosen, reason = choose_precision(torch.device(device))

    assert chosen == precision
    assert why in reason


def test_every_reason_on_a_cpu_names_the_cpu(monkeypatch):
    for capabilities in ({"amx_bf16": True}, {"avx512_bf16": True, "cpu_name": "AMD"}, {"avx512_bf16": True}, {}):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=capabilities: found, raising=False)
        assert choose_precision(CPU)[1].startswith("this CPU")


def test_fp32_on_a_gpu_is_never_tf32(monkeypatch):
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    monkeypatch.setattr(torch, "use_deterministic_algorithms", lambda **_: None)
    try:
        matmul.fp32_precision = "tf32"
        make_repeatable(1, device=torch.device("cuda"), threads=torch.get_num_threads())
        assert matmul.fp32_precision == "ieee"
    finally:
        matmul.fp32_precision = before


def test_a_batch_goes_to_a_gpu_from_pinned_memory(monkeypatch):
    pinned, moved = [], []

    class Fake(torch.Tensor):
        def pin_memory(self):
            pinned.append(self)
            return self

        def to(self, device, *, non_blocking):
            moved.append((str(device), non_blocking))
            return self

    ids = torch.ones(2, 3, dtype=torch.int64).as_subclass(Fake)
    batch = Batch(ids, ids, np.arange(2), None)
    batch.to("cuda")
    assert (len(pinned), moved) == (2, [("cuda", True)] * 2)
    batch.to("cpu")
    assert len(pinned) == 2


def test_the_optimiser_is_fused():
    weight = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = new_optimizer([ParameterGroup("all", [weight], 0.1, 0.0)], beta2=0.9)
    assert optimizer.defaults["fused"] is True
