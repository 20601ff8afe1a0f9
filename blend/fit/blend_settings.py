"""`BlendSettings`: how a blend is fitted, as one value that travels from the command line to the record."""

from dataclasses import dataclass

from blend.fit.consensus import CONSENSUS
from blend.fit.makings import Making, makings_for
from blend.fit.stacking import stackings
from data_prep.errors import InputError
from data_prep.scoring.metrics import Metric


@dataclass(frozen=True)
class BlendSettings:
    """How a blend is fitted."""

    method: str | None = None
    """Name of a making (see `blend.fit.makings`); None: the consensus of all."""
    parsimony: bool = False
    """Whether to take the fewest members within one standard error of the best."""
    most_members: int | None = None
    one_per_family: bool = False
    """Whether every family takes part, whatever it adds."""
    drop_drifting: bool = False
    """Whether candidates whose test predictions drift from the others' are left out."""
    shared_weights: bool = False
    """Whether weights that all targets share compete, too."""
    score_on: tuple[str, ...] = ()
    """Which rows are scored, as `column=value`; none: all."""
    fit_on: tuple[str, ...] = ()
    """Which rows makings are fitted on; none: all."""
    clip: bool = False
    """Whether test predictions beyond the task's range move to the nearest legal score."""
    seed: int = 0
    """Of every bootstrap."""

    def makings(self, metric: Metric) -> list[Making]:
        """Return the makings that compete for the blend; InputError, with the known ones, if there is no `method`."""
        given = {
            "--method": self.method not in (None, CONSENSUS.name),
            "--parsimony": self.parsimony,
            "--max-members": self.most_members,
            "--at-least-one-per": self.one_per_family,
            "--fit-on": self.fit_on,
        }
        if self.shared_weights and any(given.values()):
            beside = ", ".join(option for option, value in given.items() if value)
            raise InputError(f"--shared-weights: does not go with {beside}; leave one of them out")
        known = makings_for(metric, self.most_members)
        if self.method in (None, CONSENSUS.name):
            return known
        stacked = stackings(self.most_members)
        chosen = [making for making in (*known, *stacked) if making.name == self.method]
        if not chosen:
            names = ", ".join(making.name for making in (*known, CONSENSUS, *stacked))
            raise InputError(f"--method {self.method}: unknown for metric {metric.name}; known: {names}")
        if self.one_per_family and chosen[0] in stacked:
            raise InputError(f"--method {self.method}: cannot raise a family's weight; leave out --at-least-one-per")
        return chosen
