"""Searches on a cluster in Python: `launch` submits one, `ClusterSearch` follows, stops and fetches it."""

from dataclasses import dataclass
from pathlib import Path

from blendfold.python.prepared_data import DataSource, load
from blendfold.python.run import Run
from data_prep.console import print_line
from data_prep.store.files import base_name
from search.cluster import jobs
from search.cluster.place import DASHBOARD_PORT, Place


@dataclass(frozen=True)
class ClusterSearch:
    """A search that `launch` or `blendfold launch` submitted; it needs this machine no more.

    Args:
        place: where it runs.
        name: of the job or of its study; None: the last one that was launched there.
    """

    place: Place
    name: str | None = None

    def attach(self) -> str:
        """Show its log until it ends; return its status in Ray, such as `SUCCEEDED`."""
        return jobs.follow(self.name, self.place, print_line)[1]

    def stop(self) -> None:
        """Stop it; what is finished stays, and the same `launch` continues from there."""
        jobs.stop(self.name, self.place, print_line)

    def fetch(self, out: str | Path | None = None) -> Run:
        """Copy tables, blends and submission to this machine; weights stay on the cluster.

        `out` is a local folder; None: `runs/` and the study's name.
        """
        job = jobs.latest(self.place, self.name, print_line)
        folder = str(out or Path("runs", base_name(job.run_dir)))
        jobs.fetch(job, self.place, folder, print_line)
        return Run(folder)


def launch(
    study: str | Path,
    data: DataSource | None = None,
    *,
    runs: str,
    cluster: str | Path | None = None,
    address: str | None = None,
    port: int = DASHBOARD_PORT,
    backbones: str | None = None,
    only: str | None = None,
) -> ClusterSearch:
    """Run a study and then its blend as a job of a cluster, as `blendfold launch --detach` does.

    Args:
        study: the study file.
        data: prepared data that every node can read; None: the study's.
        runs: folder or URI for run directories that every node can read.
        cluster: the cluster file given to `ray up`.
        address: instead of it, the dashboard of a running cluster, http://HOST:PORT.
        port: of the dashboard.
        backbones: folder with local copies of hub models that every node can read.
        only: names under `candidates:` to run, separated by commas; None: all.

    Raises:
        InputError: the study does not fit, a path is not shared, or nothing answers.
    """
    place = Place(None if cluster is None else str(cluster), address, port)
    source = None if data is None else data if isinstance(data, str) else load(data).path
    job = jobs.launch(str(study), place, runs=runs, data=source, backbones=backbones, only=only, note=print_line)
    return ClusterSearch(place, job.name)
