"""`Machines`: what the nodes of a cluster file have, what they cost, how fast they compute; all from files."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field

from data_prep.errors import InputError
from data_prep.frozen_record import FrozenSettings
from data_prep.store.yaml_documents import check_document, read_yaml
from data_prep.store.yaml_values import parse_yaml
from models.candidate import Precision

TYPE_MARK = "accelerator_type:"
"""Prefix of the Ray resource that names the accelerator of a node."""


class SourcedEntry(FrozenSettings):
    """An entry that says where its figures come from."""

    source: str = Field(min_length=1)


class Processor(SourcedEntry):
    """What one CPU core computes."""

    tflops: dict[Precision, float]
    """Peak, 10^12 operations a second, by precision."""


class Accelerator(Processor):
    """What one GPU computes and holds."""

    memory_gib: float = Field(gt=0)


class Machine(SourcedEntry):
    """A machine to rent, or one of your own."""

    cpu: float = Field(ge=0)
    gpu: float = Field(default=0, ge=0)
    accelerator: str | None = None
    memory_gib: float | None = Field(default=None, gt=0)
    dollars_per_hour: float | None = Field(default=None, ge=0)
    """None: unknown."""
    spot_dollars_per_hour: float | None = Field(default=None, ge=0)


class Throughput(SourcedEntry):
    """A measured throughput; it replaces the estimate from the peak."""

    backbone: str
    accelerator: str
    """`core` for one CPU core."""
    tokens_per_second: float = Field(gt=0)
    """Padded tokens, in training."""


class Machines(FrozenSettings):
    """All that is known about machines."""

    utilisation: float = Field(gt=0, le=1)
    """Share of the peak that training reaches."""
    utilisation_source: str = Field(min_length=1)
    accelerators: dict[str, Accelerator]
    core: Processor
    machines: dict[str, Machine]
    throughput: tuple[Throughput, ...] = ()

    def measured(self, backbone: str, accelerator: str) -> Throughput | None:
        """Return the measured throughput of a backbone on an accelerator; None if there is none."""
        return next((t for t in self.throughput if (t.backbone, t.accelerator) == (backbone, accelerator)), None)


@dataclass(frozen=True)
class NodeType:
    """A node type: what one node has, and how many there may be."""

    name: str
    machine: str
    cpu: float
    gpu: float
    accelerator: str | None
    memory_gib: float | None
    dollars_per_hour: float | None
    source: str
    least: int
    """Nodes that always run."""
    most: int
    """Nodes at most."""
    head: bool
    spot: bool


def read_machines(path: str | Path | None = None) -> Machines:
    """Read the machines that blendfold ships; entries of the user's own file replace or extend them.

    Raises:
        InputError: the file cannot be read, or an entry lacks a figure or a source.
    """
    shipped = (files("search.cluster") / "machines.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = parse_yaml(shipped, where="search/cluster/machines.yaml")
    own = {} if path is None else read_yaml(path)
    for key, entry in own.items():
        before = content.get(key)
        content[key] = {**before, **entry} if isinstance(before, dict) and isinstance(entry, dict) else entry
    if "utilisation" in own and "utilisation_source" not in own:
        raise InputError(f"{path}: utilisation needs a `utilisation_source:` that says where it comes from")
    machines = check_document(content, Machines, where=str(path or "search/cluster/machines.yaml"))
    unknown = {m.accelerator for m in machines.machines.values() if m.accelerator} - machines.accelerators.keys()
    if unknown:
        raise InputError(f"{path}: unknown accelerator {', '.join(sorted(unknown))}; describe it under `accelerators:`")
    return machines


def read_cluster(path: str | Path, machines: Machines) -> list[NodeType]:
    """Return the node types of a Ray cluster file, the head node first.

    `resources:` of a node type comes first. What it leaves out is taken from its machine: `InstanceType` (AWS),
    `machineType` (GCP) or `vmSize` (Azure) under `node_config`, or else the machine with the node type's own name.

    Raises:
        InputError: the file is not one of Ray's, or nothing says what a node has.
    """
    content = read_yaml(path)
    limit = int(content.get("max_workers", 2))  # Ray's own default
    types, head = content.get("available_node_types"), content.get("head_node_type")
    if types is None:
        provider = content.get("provider", {})
        if provider.get("type") != "local":
            raise InputError(f"{path}: has no `available_node_types:`; is it a cluster file for `ray up`?")
        n_workers = len(provider.get("worker_ips") or ())
        node = {"min_workers": n_workers, "max_workers": n_workers}
        types, head = {"local.cluster.node": node}, None
    found = [
        _node_type(name, entry or {}, head=name == head, limit=limit, machines=machines, path=path)
        for name, entry in types.items()
    ]
    return sorted(found, key=lambda node: not node.head)


def _node_type(
    name: str, entry: dict[str, Any], *, head: bool, limit: int, machines: Machines, path: str | Path
) -> NodeType:
    config, resources = entry.get("node_config") or {}, entry.get("resources") or {}
    vm_size = (config.get("azure_arm_parameters") or {}).get("vmSize")
    kind = str(config.get("InstanceType") or config.get("machineType") or vm_size or name)
    machine = machines.machines.get(kind)
    if machine is None and "CPU" not in resources:
        raise InputError(
            f"{path}: node type {name}: nothing says what a {kind} has. Give its CPU and GPU under `resources:`, "
            f"or describe it in a file for `--throughput` under `machines: {{{kind}: ...}}`"
        )
    known = machine or Machine(cpu=0, source="unknown")
    marks = [key.removeprefix(TYPE_MARK) for key in resources if key.startswith(TYPE_MARK)]
    spot = (config.get("InstanceMarketOptions") or {}).get("MarketType") == "spot"
    discounted = known.spot_dollars_per_hour if spot else None
    return NodeType(
        name=name,
        machine=kind,
        cpu=float(resources.get("CPU", known.cpu)),
        gpu=float(resources.get("GPU", known.gpu)),
        accelerator=marks[0] if marks else known.accelerator,
        memory_gib=float(resources["memory"]) / 2**30 if "memory" in resources else known.memory_gib,
        dollars_per_hour=known.dollars_per_hour if discounted is None else discounted,
        source=known.source,
        least=1 if head else int(entry.get("min_workers", 0)),
        most=1 if head else min(int(entry.get("max_workers", limit)), limit),
        head=head,
        spot=spot,
    )


def this_machine(cores: int) -> NodeType:
    """Return this machine as a node type, as a search without `--address` uses it; it costs nothing."""
    return NodeType(
        name="this machine",
        machine="this machine",
        cpu=float(cores),
        gpu=0,
        accelerator=None,
        memory_gib=None,
        dollars_per_hour=0.0,
        source="your own",
        least=1,
        most=1,
        head=False,
        spot=False,
    )
