"""Where a fold run computes, and in which precision."""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from data_prep.errors import InputError
from models.candidate import Precision

KERNELS_KEPT = "64"
"""Compiled CPU kernels that oneDNN keeps, one per shape; its own 1024 take gigabytes where batches differ in length."""

AUTOCAST_TYPES: dict[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def find_device(name: str) -> torch.device:
    """Return the device called `name`; `auto` is the GPU where there is one (CUDA, else Apple's MPS), else the CPU.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        return torch.device(
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {name!r} is not available here ({error}); use auto, cpu, cuda or mps") from error
    return device


def find_precision(precision: Precision, device: torch.device) -> Precision:
    """Turn `auto` into the fastest that trains alike (see `choose_precision`); any other precision stays."""
    return choose_precision(device)[0] if precision == "auto" else precision


def choose_precision(device: torch.device) -> tuple[Precision, str]:
    """Return the fastest precision that trains alike, and why in a clause.

    It is bf16 where the device gains by it, on older GPUs fp16, else fp32. A CPU gains by bf16 with AMX, and with
    AVX512-BF16 when it is AMD's; Intel's own AVX512-BF16 multiplies at half the speed of its fp32.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "this GPU multiplies bf16 in hardware, which needs no scaling of the loss"
        return "fp16", "this GPU has no bf16; the loss is scaled so that fp16 gradients do not vanish"
    if device.type == "cpu":
        if not hasattr(torch.cpu, "get_capabilities"):
            return "fp32", f"torch {torch.__version__} does not tell whether this CPU multiplies bf16 in hardware"
        return _choose_on_cpu(torch.cpu.get_capabilities())
    return "fp32", f"mixed precision was never tried on {device.type} here"


def _choose_on_cpu(capabilities: Mapping[str, Any]) -> tuple[Precision, str]:
    if capabilities.get("amx_bf16"):
        return "bf16", "this CPU has AMX, which multiplies bf16 faster than fp32"
    if not capabilities.get("avx512_bf16"):
        return "fp32", "this CPU does not multiply bf16 in hardware"
    if "AMD" in str(capabilities.get("cpu_name")):
        return "bf16", "this CPU is AMD's with AVX512-BF16, which is faster than its fp32"
    return "fp32", "this CPU's AVX512-BF16 multiplies at half the speed of its fp32"


def make_repeatable(seed: int, *, device: torch.device, threads: int) -> None:
    """Seed every random stream, fix the number of threads, and choose kernels that give the same bits every time."""
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS_KEPT)  # read at the first product
    torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if device.type == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "ieee"  # fp32 is fp32: no TF32, whatever torch's default is
        torch.backends.cudnn.fp32_precision = "ieee"
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(mode=True, warn_only=True)


@contextmanager
def autocast(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute matrix products in `precision`; weights stay in float32."""
    with torch.autocast(device.type, dtype=AUTOCAST_TYPES.get(precision), enabled=precision in AUTOCAST_TYPES):
        yield
