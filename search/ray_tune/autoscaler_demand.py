"""`Demand`: tells an autoscaler how many fold runs wait for room, so that nodes come, and go when none waits."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from search.ray_tune.family_resources import Need

MOST = 100
"""Places asked for at once."""
LOOK_SECONDS = 1.0
"""How often Ray is asked which places are there."""


class Places(Protocol):
    """Where places for fold runs are asked for."""

    def ask(self, need: Need) -> str: ...  # noqa: D102
    def there(self) -> set[str]: ...  # noqa: D102
    def let_go(self, place: str) -> None: ...  # noqa: D102


class Demand:
    """As many requests for a place as fold runs wait, never more; a place that is there is given up at once.

    What a fold run gets is decided only when there is room for it, so an autoscaler would see no demand but for the
    first. Requests are placement groups of the driver's job: they end with it, however it ends.
    """

    def __init__(self, places: Places, clock: Callable[[], float] = time.monotonic) -> None:
        self._places = places
        self._clock = clock
        self._looked = clock()
        self._asked: dict[str, Need] = {}

    def want(self, need: Need, number: int) -> None:
        """Have so many requests for places of a size, up to `MOST`."""
        for place in [place for place, size in self._asked.items() if size != need]:
            self._take_back(place)
        while len(self._asked) > min(number, MOST):
            self._take_back(next(reversed(self._asked)))
        while len(self._asked) < min(number, MOST):
            self._asked[self._places.ask(need)] = need

    def look(self) -> None:
        """Give up the places that are there, for fold runs to take; asks Ray once in `LOOK_SECONDS` at most."""
        if not self._asked or self._clock() - self._looked < LOOK_SECONDS:
            return
        self._looked = self._clock()
        for place in self._places.there() & self._asked.keys():
            self._take_back(place)

    def _take_back(self, place: str) -> None:
        del self._asked[place]
        self._places.let_go(place)


class PlacementGroups:
    """Places of a Ray cluster: placement groups of one bundle, known by their ids."""

    def __init__(self) -> None:
        self._groups: dict[str, Any] = {}

    def ask(self, need: Need) -> str:
        """Ask for a group, which waits until a node has room for it."""
        from ray.util import placement_group  # noqa: PLC0415 - after the environment is set

        group = placement_group([{"CPU": need.cpu, **({"GPU": need.gpu} if need.gpu else {})}])
        self._groups[group.id.hex()] = group
        return str(group.id.hex())

    def there(self) -> set[str]:
        """Return the groups that have their node."""
        from ray.util import placement_group_table  # noqa: PLC0415

        return {key for key, entry in placement_group_table().items() if entry["state"] == "CREATED"}

    def let_go(self, place: str) -> None:
        """Remove a group."""
        from ray.util import remove_placement_group  # noqa: PLC0415

        remove_placement_group(self._groups.pop(place))
