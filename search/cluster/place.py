"""`Place`: where jobs run, a cluster of a cluster file or the dashboard of a running one."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_prep.errors import InputError

if TYPE_CHECKING:
    from search.cluster.machines import NodeType

DASHBOARD_PORT = 8265
ADDRESS = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s:/?#@]+)(:\d+)?(/[^\s?#]*)?")


@dataclass(frozen=True)
class Place:
    """A cluster that a file describes, or the address of a jobs API (`http://host:port`)."""

    cluster: str | None
    address: str | None
    port: int = DASHBOARD_PORT
    """Port of this machine that leads to the dashboard of a cluster with a file."""

    def __post_init__(self) -> None:
        if (self.cluster is None) == (self.address is None):
            raise InputError("say where: --cluster FILE (the file for `ray up`), or --address http://HOST:PORT")
        if self.address is not None and not ADDRESS.fullmatch(self.address):
            raise InputError(
                f"--address {self.address}: jobs are submitted to the dashboard, http://HOST:PORT (port "
                f"{DASHBOARD_PORT} by default; no credentials, as Ray knows only its token). The address of a head "
                "node is for `blendfold run --address`"
            )
        self.node_types()

    @property
    def options(self) -> dict[str, object]:
        """The options that name this place."""
        port = self.port if self.port != DASHBOARD_PORT else None
        return {"--cluster": self.cluster, "--address": self.address, "--port": port}

    def node_types(self) -> "list[NodeType]":
        """Return the node types of the cluster file; none if there is no file or the machines are the user's own.

        Raises:
            InputError: the file is not a cluster file.
        """
        from data_prep.store.yaml_documents import read_yaml  # noqa: PLC0415 - keeps `--help` fast
        from search.cluster.machines import read_cluster, read_machines  # noqa: PLC0415 - keeps `--help` fast

        if self.cluster is None:
            return []
        content = read_yaml(self.cluster)
        if "provider" not in content:
            raise InputError(f"{self.cluster}: not a cluster file for `ray up`: it has no `provider:`")
        return read_cluster(self.cluster, read_machines()) if "available_node_types" in content else []
