"""Memory that ran out: how torch says so, and how it is given back before another try."""

import gc

import torch

SIGNS = (
    "DefaultCPUAllocator:",
    "std::bad_alloc",
    "could not create a memory object",
    "could not create a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""By these the plain RuntimeErrors are known that torch and its libraries raise when they get no memory.

oneDNN could not create a primitive where it got none for the code that it compiles; it says no more than that.
"""


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory, the machine's or the GPU's, did not suffice."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def free_memory() -> None:
    """Free what nothing refers to any more, on the GPU to whoever shares it, too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
