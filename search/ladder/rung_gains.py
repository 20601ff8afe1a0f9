"""`RungGains`: what runs gain between a rung and the end of their fold, which shows how much a rung can mislead."""

from dataclasses import dataclass


@dataclass
class _FamilyGains:
    """Gains of one family from one rung of one fold."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared deviations from the mean."""

    def add(self, gain: float) -> None:
        """Add one gain (Welford's recurrence)."""
        self.count += 1
        before = gain - self.mean
        self.mean += before / self.count
        self.squares += before * (gain - self.mean)


class RungGains:
    """Gains from each rung of each fold, family by family."""

    def __init__(self) -> None:
        self._gains: dict[tuple[int, float], dict[str, _FamilyGains]] = {}

    def add(self, family: str, fold: int, rung: float, gain: float) -> None:
        """Add what a finished run gained since a rung."""
        self._gains.setdefault((fold, rung), {}).setdefault(family, _FamilyGains()).add(gain)

    def residual(self, fold: int, rung: float) -> tuple[float, int]:
        """Return the sum of squared deviations from each family's mean gain, and its degrees of freedom."""
        gains = self._gains.get((fold, rung), {}).values()
        return sum(family.squares for family in gains), sum(family.count - 1 for family in gains)
