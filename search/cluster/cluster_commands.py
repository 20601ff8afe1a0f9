"""The verbs `aws`, `launch`, `attach`, `stop` and `fetch`: searches as jobs of a cluster."""

from typing import Annotated

import typer

from data_prep.console import console
from data_prep.errors import InputError
from data_prep.store.files import base_name
from search.cluster.aws import set_up
from search.cluster.jobs import DASHBOARD_PORT, Place, fetch, follow, latest, launch, stop

Cluster = Annotated[
    str | None, typer.Option(help="The file that `ray up` was given; an SSH tunnel leads there.", metavar="FILE")
]
Address = Annotated[
    str | None, typer.Option(help="Instead: the dashboard of a running cluster.", metavar="http://HOST:PORT")
]
Port = Annotated[int, typer.Option(help="Port of the dashboard on the cluster's head, and of the tunnel here.")]
Name = Annotated[
    str | None, typer.Argument(help="The job's or the study's name.  [default: the last one launched]", metavar="JOB")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to a command line."""

    @app.command("aws")
    def aws_verb(
        *,
        bucket: Annotated[str, typer.Option(help="S3 bucket for prepared data and run directories.")],
        ssh_from: Annotated[
            str, typer.Option(help="Your address, which alone may reach the machines.", metavar="A.B.C.D/32")
        ],
        region: Annotated[str, typer.Option(help="Region of AWS.")] = "us-west-2",
        cluster: Annotated[str, typer.Option(help="The cluster file to fill in.")] = "cluster.yaml",
    ) -> None:
        """Make, once, what a cluster on AWS needs (bucket, security group, roles), and fill it into the cluster file.

        Example: `python -m search aws --bucket my-blendfold --ssh-from 203.0.113.7/32`
        """
        set_up(bucket, cluster, region=region, ssh_from=ssh_from, note=_say)
        _say(f"wrote {cluster}; next: ray up {cluster}")

    @app.command("launch")
    def launch_verb(
        study: Annotated[str, typer.Argument(help="The study file (YAML).", metavar="STUDY.yaml")],
        *,
        runs: Annotated[str, typer.Option(help="Folder or URI for run directories that every node sees.")],
        data: Annotated[
            str | None, typer.Option(help="Prepared folder or URI that every node sees.  [default: the study's]")
        ] = None,
        cluster: Cluster = None,
        address: Address = None,
        port: Port = DASHBOARD_PORT,
        backbones: Annotated[
            str | None, typer.Option(help="Folder with local copies of hub models that every node sees.")
        ] = None,
        only: Annotated[
            str | None, typer.Option(help="Names under `candidates:` to run, with commas between.", metavar="NAMES")
        ] = None,
        detach: Annotated[bool, typer.Option("--detach", help="Submit and return.")] = False,
    ) -> None:
        """Run a study, then its blend, as a job of a cluster, and follow it; Ctrl-C leaves it running.

        Example: `python -m search launch studies/pppm.yaml --cluster cluster.yaml --data s3://b/prepared --runs s3://b/runs`
        """
        place = Place(cluster, address, port)
        job = launch(study, place, runs=runs, data=data, backbones=backbones, only=only, note=_say)
        _say(
            f"submitted {job.name}; it runs on without this machine. See it: python -m search attach {place.options}, "
            f"end it: python -m search stop {place.options}"
        )
        if not detach:
            _follow(job.name, place)

    @app.command("attach")
    def attach_verb(
        job: Name = None, *, cluster: Cluster = None, address: Address = None, port: Port = DASHBOARD_PORT
    ) -> None:
        """Follow a job that was launched, from its first line; Ctrl-C leaves it running.

        Example: `python -m search attach --cluster cluster.yaml`
        """
        _follow(job, Place(cluster, address, port))

    @app.command("stop")
    def stop_verb(
        job: Name = None, *, cluster: Cluster = None, address: Address = None, port: Port = DASHBOARD_PORT
    ) -> None:
        """End a job; what is finished stays, and the same `launch` goes on from there.

        Example: `python -m search stop --cluster cluster.yaml`
        """
        found = stop(job, Place(cluster, address, port), _say)
        _say(f"stopped {found.name}; what is finished stays in {found.run_dir}")

    @app.command("fetch")
    def fetch_verb(
        job: Name = None,
        *,
        cluster: Cluster = None,
        address: Address = None,
        port: Port = DASHBOARD_PORT,
        out: Annotated[
            str | None, typer.Option(help="Local folder.  [default: runs/ and the study's name]", metavar="DIR")
        ] = None,
    ) -> None:
        """Bring tables, blends and submission of a job home; weights stay where they are.

        Example: `python -m search fetch --cluster cluster.yaml`
        """
        place = Place(cluster, address, port)
        found = latest(place, job, _say)
        out = out or f"runs/{base_name(found.run_dir)}"
        fetch(found, place, out, _say)
        _say(f"wrote {out}; next: python -m blend fit {out} --data PREPARED, or hand in {out}/blends/launched")


def _follow(name: str | None, place: Place) -> None:
    try:
        job, status = follow(name, place, _say)
    except KeyboardInterrupt:
        _say(f"{name or 'the job'} runs on. See it again: python -m search attach {place.options}")
        return
    if status == "SUCCEEDED":
        _say(
            f"{job.name} is done; next: python -m search fetch {place.options}, then `ray down` if nothing else runs "
            "there"
        )
    elif status in ("PENDING", "RUNNING"):
        _say(f"the connection ended, {job.name} runs on. See it again: python -m search attach {place.options}")
    else:
        raise InputError(
            f"{job.name} ended as {status}; its log is above. What is finished is kept: the same `launch` goes on "
            "with it"
        )


def _say(text: str) -> None:
    console.print(text, highlight=False, soft_wrap=True, markup=False)
