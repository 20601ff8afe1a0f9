"""The precision that `auto` stands for."""

import pytest
import torch

from models.devices import find_precision

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
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert find_precision("auto", CPU) == precision


@pytest.mark.parametrize(("supported", "precision"), [(True, "bf16"), (False, "fp16")])
def test_an_older_gpu_computes_in_fp16(monkeypatch, supported, precision):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: supported)

    assert find_precision("auto", torch.device("cuda")) == precision


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_precision_that_was_asked_for_stays(precision):
    assert find_precision(precision, CPU) == precision
