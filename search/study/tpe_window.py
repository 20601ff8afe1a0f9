"""`TpeWindow`: the trials that the sampler learns from, limited in number so that late draws cost no more."""

from bisect import insort
from collections.abc import Container, Sequence
from copy import deepcopy as deep

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

N_BEST = 15
"""Best trials in view: as many as Optuna's TPE counts as good among `N_BEST + N_LATEST`, a tenth."""

N_LATEST = 135
"""Latest of the other trials in view. TPE's weights of old trials go towards 0 in any case."""


class TpeWindow(InMemoryStorage):
    """Optuna's trials, of which a sampler sees the `n_best` best so far and the `n_latest` latest of the others.

    Optuna goes through all trials at each draw, so draws would cost ever more. TPE's good side is the `n_best` best of
    all (with all in view it would grow to 25), its other side the latest. Running trials are always in view. What is in
    view depends on the results, not on the order in which they came.
    """

    def __init__(self, n_best: int = N_BEST, n_latest: int = N_LATEST) -> None:
        super().__init__()
        self._n_best, self._n_latest = n_best, n_latest
        self._best: list[tuple[tuple[float, ...], int, FrozenTrial]] = []
        self._latest: list[tuple[int, FrozenTrial]] = []
        self._running: set[int] = set()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Create a trial for Optuna; a running one is in view."""
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is None:
            self._running.add(trial_id)
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state for Optuna; a trial that ended with a value is considered from now on."""
        changed = super().set_trial_state_values(trial_id, state, values)
        if state == TrialState.RUNNING:
            self._running.add(trial_id)
        else:
            self._running.discard(trial_id)
        if state in (TrialState.COMPLETE, TrialState.PRUNED):
            trial = self.get_trial(trial_id)
            insort(self._best, (_rank(trial), trial_id, trial))
            if len(self._best) > self._n_best:
                insort(self._latest, self._best.pop()[1:])
            del self._latest[: -self._n_latest]
        return changed

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials in view in the order of their draws; all of those that wait to be drawn."""
        if states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        running = ((trial_id, self.get_trial(trial_id)) for trial_id in self._running)
        best = ((trial_id, trial) for _, trial_id, trial in self._best)
        seen = sorted([*running, *best, *self._latest])
        shown = [trial for _, trial in seen if states is None or trial.state in states]
        return deep(shown) if deepcopy else shown


def _rank(trial: FrozenTrial) -> tuple[float, ...]:
    """Return a key that sorts as TPE does when it maximizes: finished ones first, then those that got furthest."""
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return (0.0, 0.0, -trial.value)
    step, value = max(trial.intermediate_values.items())
    return (1.0, -step, -value)
