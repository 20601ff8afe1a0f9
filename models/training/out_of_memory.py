"""Running out of memory: how torch reports it, and the retry of a computation in twice as many parts."""

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from data_prep.errors import InputError
from models.training.random_streams import random_state, restore_random_state

SIGNS = (
    "DefaultCPUAllocator:",
    "std::bad_alloc",
    "could not create a memory object",
    "could not create a primitive",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)
"""What the plain RuntimeErrors say that torch and its libraries raise when they get no memory.

oneDNN could not create a primitive where it got no memory for the code that it compiles; it says no more than that.
"""

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, the machine's or the GPU's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in SIGNS)


def free_memory() -> None:
    """Free what nothing refers to any more, on the GPU for the processes that share it, too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


class MemoryRetry:
    """Runs computations; one that runs out of memory is run again in twice as many parts, as are all that follow.

    Each try starts from the random state in which the first one began. Without `halve` there is no second try, since a
    larger share of the machine is available. `forget` drops what a failed try has left, such as gradients.
    """

    def __init__(
        self,
        *,
        micro_batches: int = 1,
        halve: bool = True,
        forget: Callable[[], None],
        free: Callable[[], None] = free_memory,
    ) -> None:
        self.micro_batches = micro_batches
        self.halve = halve
        self.free = free
        self._forget = forget

    def retry_smaller(self, compute: Callable[[int], Result], *, n_texts: int, n_parts: int = 1) -> Result:
        """Return what `compute` returns for the number of micro-batches at which it fits into memory.

        It may change nothing but what `forget` drops and random streams. Its `n_texts` are cut into `n_parts` anyway,
        each of which is cut into micro-batches.

        Raises:
            InputError: it does not fit with a single text at a time.
            MemoryError: it does not fit, and `halve` is False.
        """
        before = random_state()
        while True:
            try:
                return compute(self.micro_batches)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).split("\n", 1)[0]
            self._forget()  # outside of the handler, which keeps alive all that the error has seen
            self.free()
            restore_random_state(before)
            self._double(n_texts=n_texts, n_parts=n_parts, reason=reason)

    def _double(self, *, n_texts: int, n_parts: int, reason: str) -> None:
        """Use twice as many micro-batches from now on."""
        if not self.halve:
            raise MemoryError(f"out of memory ({reason}) where a larger share of the machine is available")
        if n_parts * self.micro_batches >= n_texts:
            raise InputError(
                f"out of memory with a single text at a time ({reason}); lower max_length or layers, set "
                "checkpointing: true, choose a smaller backbone, or give each fold run more `resources:` so that fewer "
                "share a device"
            )
        self.micro_batches *= 2
        logger.warning("out of memory (%s): continuing with %d micro-batches", reason, self.micro_batches)
