"""`FoldOptions`: how a fold run is carried out, as opposed to what is trained."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class FoldOptions:
    """When a fold run reports and saves its state, where it computes, and what it returns."""

    rungs: tuple[float, ...] = (1.0,)
    """Shares of the schedule at which to report, in (0, 1]; 1.0 is always one."""
    rung_rows: int | None = None
    """Validation rows measured before 1.0, the same for every candidate; None: all."""
    checkpoint_seconds: float = 60.0
    """Time between checkpoints, longer where they would take more than a tenth of it; 0: one after each step. One more
    is saved at each rung, before its report."""
    micro_batches: int = 1
    """Parts to start with, where memory is known to be short. A resumed run starts with those it had come to, times the
    factor by which this is more than what its last try was given."""
    halve: bool = True
    """Continue in smaller parts where memory runs out; else raise, since a larger share of the machine is available."""
    keep_weights: bool = False
    """Also return the weights that predict."""
    cache: Path | None = None
    """Folder of the token cache; None for the default."""
    threads: int = 1
    """CPU threads."""
    device: str = "auto"
    """`auto`, or a torch device."""
