"""`Observations`: what a sampler learns from, at a cost that does not grow with the search."""

from bisect import insort
from collections.abc import Container, Sequence
from copy import deepcopy as deep

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

BEST = 15
"""As many as Optuna's TPE counts as good among `BEST + LATEST`: a tenth."""

LATEST = 135
"""Of the others. TPE's weights of old observations go towards 0 in any case."""


class Observations(InMemoryStorage):
    """Optuna's trials, of which a sampler is shown the `BEST` best told so far and the `LATEST` latest of the others.

    Optuna goes through all trials at each draw, so that a draw costs the more the longer a search is. Up to
    `BEST + LATEST` observations nothing is left out. Then TPE's good side is the `BEST` best of all (with all in view
    it would grow on to 25), its other side what was drawn lately. Trials that run are in view as ever. What is shown is
    a function of what was told, not of the order in which it was.
    """

    def __init__(self) -> None:
        super().__init__()
        self._best: list[tuple[tuple[float, ...], int, FrozenTrial]] = []
        self._latest: list[tuple[int, FrozenTrial]] = []
        self._running: set[int] = set()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Make a trial, as Optuna asks; one that runs is in view."""
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is None:
            self._running.add(trial_id)
        return trial_id

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set the state, as Optuna asks; a trial that ended with an observation is looked at from now on."""
        changed = super().set_trial_state_values(trial_id, state, values)
        if state == TrialState.RUNNING:
            self._running.add(trial_id)
        else:
            self._running.discard(trial_id)
        if state in (TrialState.COMPLETE, TrialState.PRUNED):
            trial = self.get_trial(trial_id)
            insort(self._best, (_rank(trial), trial_id, trial))
            if len(self._best) > BEST:
                insort(self._latest, self._best.pop()[1:])
            del self._latest[:-LATEST]
        return changed

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Return the trials in view, in the order of their draws; of those that wait to be drawn, all."""
        if states == (TrialState.WAITING,):
            return super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        running = ((trial_id, self.get_trial(trial_id)) for trial_id in self._running)
        best = ((trial_id, trial) for _, trial_id, trial in self._best)
        seen = sorted([*running, *best, *self._latest])
        shown = [trial for _, trial in seen if states is None or trial.state in states]
        return deep(shown) if deepcopy else shown


def _rank(trial: FrozenTrial) -> tuple[float, ...]:
    """Return a key that sorts as TPE does when it maximises: finished ones first, then those that got furthest."""
    if trial.state == TrialState.COMPLETE:
        assert trial.value is not None
        return (0.0, 0.0, -trial.value)
    step, value = max(trial.intermediate_values.items())
    return (1.0, -step, -value)
