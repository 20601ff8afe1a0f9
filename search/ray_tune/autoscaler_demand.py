"""`AutoscalerDemand`: shows an autoscaler how many fold runs wait for room, so that it adds and removes nodes."""

import time
from collections.abc import Callable
from typing import Any, Protocol

from search.worker.messages import FoldRunResources

MAX_REQUESTS = 100
"""Requests at once."""
CHECK_SECONDS = 1.0
"""How often Ray is asked which requests it has met."""


class RoomRequests(Protocol):
    """Requests for room for fold runs."""

    def add(self, resources: FoldRunResources) -> str: ...  # noqa: D102
    def met(self) -> set[str]: ...  # noqa: D102
    def remove(self, request: str) -> None: ...  # noqa: D102


class AutoscalerDemand:
    """As many requests for room as fold runs wait, never more; a request that is met is removed at once.

    A fold run is chosen only when there is room for it, so an autoscaler would see no demand beyond the first. Requests
    are placement groups of the driver's job: they end with it, however it ends.
    """

    def __init__(self, requests: RoomRequests, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = requests
        self._clock = clock
        self._checked = clock()
        self._open: dict[str, FoldRunResources] = {}

    def request(self, resources: FoldRunResources, number: int) -> None:
        """Have exactly `number` requests of this size, up to `MAX_REQUESTS`."""
        for request in [request for request, size in self._open.items() if size != resources]:
            self._remove(request)
        while len(self._open) > min(number, MAX_REQUESTS):
            self._remove(next(reversed(self._open)))
        while len(self._open) < min(number, MAX_REQUESTS):
            self._open[self._requests.add(resources)] = resources

    def release_met(self) -> None:
        """Remove the requests that are met, so that fold runs get the room; asks Ray every `CHECK_SECONDS` at most."""
        if not self._open or self._clock() - self._checked < CHECK_SECONDS:
            return
        self._checked = self._clock()
        for request in self._requests.met() & self._open.keys():
            self._remove(request)

    def _remove(self, request: str) -> None:
        del self._open[request]
        self._requests.remove(request)


class PlacementGroups:
    """Requests to a Ray cluster: placement groups of one bundle, known by their ids."""

    def __init__(self) -> None:
        self._groups: dict[str, Any] = {}

    def add(self, resources: FoldRunResources) -> str:
        """Create a group, which waits until a node has room for it."""
        from ray.util import placement_group  # noqa: PLC0415 - after the environment is set

        group = placement_group([{"CPU": resources.cpu, **({"GPU": resources.gpu} if resources.gpu else {})}])
        self._groups[group.id.hex()] = group
        return str(group.id.hex())

    def met(self) -> set[str]:
        """Return the groups that have their node."""
        from ray.util import placement_group_table  # noqa: PLC0415

        return {key for key, entry in placement_group_table().items() if entry["state"] == "CREATED"}

    def remove(self, request: str) -> None:
        """Remove a group."""
        from ray.util import remove_placement_group  # noqa: PLC0415

        remove_placement_group(self._groups.pop(request))
