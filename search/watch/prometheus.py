"""Series for Prometheus, exported through Ray: those of the driver and those of each worker.

Ray exports them from each node's metrics port, with `ray_` before the name and the node and the process (WorkerId) as
labels. Our only label is the study, never a candidate, so the number of series does not grow with the search.
"""

from collections.abc import Callable, Mapping
from typing import Any

from search.run_dir.pulse_file import Pulse

PREFIX = "blendfold_"
COUNTERS = {
    "fold_runs_started": ("started", "Fold runs that started."),
    "fold_runs_finished": ("finished", "Fold runs that finished, with all their tables."),
    "fold_runs_stopped": ("stopped", "Fold runs that the ladder stopped."),
    "fold_runs_dead": ("dead", "Fold runs that failed to learn and are tried again."),
    "fold_runs_failed": ("failed", "Fold runs that failed for good."),
    "candidates_promoted": ("promoted", "Candidates promoted after fold 0."),
}
"""Series of the driver: name -> key in the `counts` of a pulse, description."""
GAUGES: dict[str, tuple[Callable[[Pulse], float | None], str]] = {
    "fold_runs_running": (lambda pulse: len(pulse.running), "Fold runs on workers."),
    "candidates_to_come": (lambda pulse: pulse.to_come, "Candidates that have not started."),
    "rows_per_second": (
        lambda pulse: pulse.rows_per_second,
        "Training rows a second, scoring included: of the fold runs that have reported, times how many run now.",
    ),
    "seconds_left": (lambda pulse: pulse.seconds_left, "Seconds to the end, at least."),
    "core_hours": (lambda pulse: pulse.spent.core_hours, "Hours that fold runs held a CPU core."),
    "gpu_hours": (lambda pulse: pulse.spent.gpu_hours, "Hours that fold runs held a GPU."),
    "best_score": (
        lambda pulse: pulse.best.mean if pulse.best else None,
        "Best mean over folds in the task's metric, among the candidates with the most folds.",
    ),
    "best_score_folds": (
        lambda pulse: pulse.best.folds if pulse.best else None,
        "Folds that the best score is the mean of.",
    ),
    "best_blended_score": (
        lambda pulse: pulse.blend.pearson if pulse.blend else None,
        "Pearson of the blend of all complete candidates, on rows that its weights were not fitted on.",
    ),
}
"""Series of the driver: name -> its value in a pulse (None: none yet), description."""
WORKER_ROWS, WORKER_MEMORY = "worker_rows_per_second", "worker_gpu_memory_bytes"
WORKER_GAUGES = {
    WORKER_ROWS: "Training rows a second of a worker between two rungs, scoring included; 0 between fold runs.",
    WORKER_MEMORY: "Peak GPU memory that torch has reserved in a worker, as of its last rung; on GPUs only.",
}
"""Series of each worker: name -> description."""


def exported_names() -> list[str]:
    """Return the name of every series as Prometheus sees it."""
    counters = [f"{name}_total" for name in COUNTERS]
    return [f"ray_{PREFIX}{name}" for name in (*counters, *GAUGES, *WORKER_GAUGES)]


class DriverTelemetry:
    """Turns pulses into series while Ray is connected; counters start at 0 and go on from the pulse `counts`."""

    def __init__(self, study: str, counts: Mapping[str, int]) -> None:
        from ray.util.metrics import Counter, Gauge  # noqa: PLC0415 - after the environment is set

        self._counted = counts
        self._counters = {name: _new(Counter, name, text, study) for name, (_, text) in COUNTERS.items()}
        self._gauges = {name: _new(Gauge, name, text, study) for name, (_, text) in GAUGES.items()}

    def show(self, pulse: Pulse) -> None:
        """Export a pulse; counters grow by what happened since the last one."""
        for name, (count, _) in COUNTERS.items():
            if more := pulse.counts[count] - self._counted[count]:
                self._counters[name].inc(more)
        self._counted = pulse.counts
        for name, (value_of, _) in GAUGES.items():
            if (value := value_of(pulse)) is not None:
                self._gauges[name].set(value)


def reserved_gpu_memory() -> int | None:
    """Return the most bytes of GPU memory that torch has reserved in this process; None without a GPU."""
    import torch  # noqa: PLC0415 - workers only

    return torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None


class WorkerTelemetry:
    """The series of one worker during a fold run, its speed 0 afterwards; `gpu_memory` returns the peak, in bytes."""

    def __init__(
        self,
        study: str,
        *,
        gauge: Callable[..., Any] | None = None,
        gpu_memory: Callable[[], int | None] = reserved_gpu_memory,
    ) -> None:
        if gauge is None:
            from ray.util.metrics import Gauge  # noqa: PLC0415 - workers of Ray only

            gauge = Gauge
        self._gauges = {name: _new(gauge, name, text, study) for name, text in WORKER_GAUGES.items()}
        self._gpu_memory = gpu_memory
        self._rows, self._seconds = 0.0, 0.0

    def __enter__(self) -> "WorkerTelemetry":
        return self

    def __exit__(self, *_: object) -> None:
        self._gauges[WORKER_ROWS].set(0)

    def show(self, rows: float, seconds: float) -> None:
        """Export the training rows that a fold run has done so far and the seconds they took, scoring included."""
        if seconds > self._seconds:
            self._gauges[WORKER_ROWS].set((rows - self._rows) / (seconds - self._seconds))
        self._rows, self._seconds = rows, seconds
        if (memory := self._gpu_memory()) is not None:
            self._gauges[WORKER_MEMORY].set(memory)


def _new(kind: Callable[..., Any], name: str, description: str, study: str) -> Any:
    """Return a new Ray metric, labeled with the study."""
    series = kind(f"{PREFIX}{name}", description=description, tag_keys=("study",))
    series.set_default_tags({"study": study})
    return series
