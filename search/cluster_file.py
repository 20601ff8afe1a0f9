"""The file of a cluster, as `ray up` takes it: which kinds of node it may have."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from data_prep.errors import InputError
from data_prep.tables import read_bytes
from search.study import Resources


@dataclass(frozen=True)
class NodeType:
    """A kind of node that a cluster may have."""

    name: str
    resources: Mapping[str, float]
    """By Ray's names, such as CPU and GPU; empty where Ray finds them out on the node itself."""
    most: int
    """How many of this kind there may be at a time."""

    def has_room(self, size: Resources) -> bool:
        """Tell whether a fold run fits an empty node of this kind."""
        found = self.resources
        return not found or (size.cpu <= found.get("CPU", 0) and size.gpu <= found.get("GPU", 0))


def read_cluster_file(path: str) -> list[NodeType]:
    """Return the kinds of node in a cluster file; none where its provider has machines of its own (`local`).

    Raises:
        InputError: no such file, or not one that `ray up` takes.
    """
    try:
        content = yaml.safe_load(read_bytes(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not a YAML file ({error})") from error
    if not isinstance(content, dict) or not {"cluster_name", "provider"} <= content.keys():
        raise InputError(
            f"{path}: not a cluster file, which has `cluster_name:` and `provider:`; cluster.yaml and "
            "clusters/on-prem.yaml are such files"
        )
    kinds: dict[str, dict[str, Any]] = content.get("available_node_types") or {}
    most = content.get("max_workers", 2)
    head = content.get("head_node_type")
    return [
        NodeType(name, kind.get("resources") or {}, 1 if name == head else min(most, kind.get("max_workers", most)))
        for name, kind in kinds.items()
    ]


def check_room(sizes: list[Resources], path: str) -> None:
    """Refuse fold runs for which no node of a cluster would ever have room.

    Raises:
        InputError: names the size and what the kinds of node have.
    """
    kinds = read_cluster_file(path)
    if faults := [
        f"{path}: no kind of node has room for a fold run with cpu={size.cpu:g}, gpu={size.gpu:g}"
        for size in sizes
        if kinds and not any(kind.has_room(size) for kind in kinds)
    ]:
        has = "; ".join(f"{kind.name}: {dict(kind.resources)}" for kind in kinds)
        raise InputError(*faults, f"It has {has}. Lower `resources:` in the study, or take a larger kind of node.")
