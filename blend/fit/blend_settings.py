"""`BlendSettings`: how a blend is fitted, as one value that travels from the command line to the record."""

from dataclasses import dataclass

from blend.fit.calibration import CALIBRATIONS
from blend.fit.member_selection import MOST_MEMBERS
from blend.fit.weight_methods import METHODS, check_method
from data_prep.errors import InputError
from data_prep.scoring.metrics import Metric


@dataclass(frozen=True)
class BlendSettings:
    """How a blend is fitted."""

    method: str = "nelder-mead"
    """One of `blend.fit.weight_methods.METHODS`."""
    calibration: str | None = None
    """One of `blend.fit.calibration.CALIBRATIONS`; None: the simplest within one standard error of the best."""
    choose_members: bool = True
    """Whether fewer than all candidates may become members."""
    most_members: int = MOST_MEMBERS
    one_per_family: bool = False
    """Whether every family takes part, whatever it adds; these members count beside `most_members`."""
    clip: bool = False
    """Whether test predictions beyond the task's range move to the nearest legal score."""
    seed: int = 0
    """Of every bootstrap."""

    def check(self, metric: Metric) -> None:
        """Raise InputError, with the known ones, for a method or calibration that is unknown or does not fit."""
        check_method(self.method, metric)
        if self.calibration is None:
            return
        if self.calibration not in CALIBRATIONS:
            raise InputError(f"unknown calibration {self.calibration!r}; known: {', '.join(CALIBRATIONS)}")
        if METHODS[self.method].calibration not in (None, self.calibration):
            raise InputError(
                f"method {self.method!r} is the mean of ranks; leave --calibration {self.calibration} out, or use mean"
            )
