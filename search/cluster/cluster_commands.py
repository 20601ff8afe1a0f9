"""The verbs `aws`, `launch`, `attach`, `stop` and `fetch`: set up a cluster, and run searches as its jobs."""

from typing import Annotated

import typer

from data_prep.console import print_line
from data_prep.errors import InputError
from data_prep.wording import command
from search.cluster.place import DASHBOARD_PORT, Place

Cluster = Annotated[
    str | None,
    typer.Option(help="The cluster file given to `ray up`; reached through an SSH tunnel.", metavar="FILE"),
]
Address = Annotated[
    str | None,
    typer.Option(help="Instead of --cluster: the dashboard of a running cluster.", metavar="http://HOST:PORT"),
]
Port = Annotated[int, typer.Option(help="Port of the dashboard on the head node, and of the tunnel on this machine.")]
Name = Annotated[
    str | None, typer.Argument(help="Name of the job or of its study.  [default: the last one launched]", metavar="JOB")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to a command line."""

    @app.command("aws")
    def aws_verb(
        *,
        bucket: Annotated[str, typer.Option(help="S3 bucket for prepared data and run directories.")],
        ssh_from: Annotated[
            str, typer.Option(help="Your address; no other can reach the machines.", metavar="A.B.C.D/32")
        ],
        region: Annotated[str, typer.Option(help="AWS region.")] = "us-west-2",
        cluster: Annotated[str, typer.Option(help="The cluster file to fill in.")] = "cluster.yaml",
    ) -> None:
        """Create what a cluster on AWS needs (bucket, security group, roles), once, and enter it in the cluster file.

        Example: `blendfold aws --bucket my-blendfold --ssh-from 203.0.113.7/32`
        """
        from search.cluster.aws import set_up  # noqa: PLC0415 - keeps `--help` fast

        set_up(bucket, cluster, region=region, ssh_from=ssh_from, note=print_line)
        print_line(f"wrote {cluster}; next: {command('ray up', cluster)}")

    @app.command("launch")
    def launch_verb(
        study: Annotated[str, typer.Argument(help="The study file (YAML).", metavar="STUDY.yaml")],
        *,
        runs: Annotated[str, typer.Option(help="Folder or URI for run directories that every node can read.")],
        data: Annotated[
            str | None, typer.Option(help="Prepared folder or URI that every node can read.  [default: the study's]")
        ] = None,
        cluster: Cluster = None,
        address: Address = None,
        port: Port = DASHBOARD_PORT,
        backbones: Annotated[
            str | None, typer.Option(help="Folder with local copies of hub models that every node can read.")
        ] = None,
        only: Annotated[
            str | None, typer.Option(help="Names under `candidates:` to run, separated by commas.", metavar="NAMES")
        ] = None,
        detach: Annotated[bool, typer.Option("--detach", help="Submit the job and return.")] = False,
    ) -> None:
        """Run a study and then its blend as a job of a cluster, and follow its log; Ctrl-C leaves it running.

        Example: `blendfold launch studies/pppm.yaml --cluster cluster.yaml --data s3://b/prepared --runs s3://b/runs`
        """
        from search.cluster.jobs import launch  # noqa: PLC0415 - keeps `--help` fast

        place = Place(cluster, address, port)
        job = launch(study, place, runs=runs, data=data, backbones=backbones, only=only, note=print_line)
        print_line(
            f"submitted {job.name}; it keeps running without this machine. To follow it: "
            f"{_command('attach', job.name, place)}. To stop it: {_command('stop', job.name, place)}"
        )
        if not detach:
            _follow(job.name, place)

    @app.command("attach")
    def attach_verb(
        job: Name = None, *, cluster: Cluster = None, address: Address = None, port: Port = DASHBOARD_PORT
    ) -> None:
        """Follow the log of a launched job from its first line; Ctrl-C leaves it running.

        Example: `blendfold attach --cluster cluster.yaml`
        """
        _follow(job, Place(cluster, address, port))

    @app.command("stop")
    def stop_verb(
        job: Name = None, *, cluster: Cluster = None, address: Address = None, port: Port = DASHBOARD_PORT
    ) -> None:
        """Stop a job; what is finished stays, and the same `launch` continues from there.

        Example: `blendfold stop --cluster cluster.yaml`
        """
        from search.cluster.jobs import stop  # noqa: PLC0415 - keeps `--help` fast

        found = stop(job, Place(cluster, address, port), print_line)
        print_line(f"stopped {found.name}; what is finished stays in {found.run_dir}")

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
        """Copy tables, blends and submission of a job to this machine; weights stay on the cluster.

        Example: `blendfold fetch --cluster cluster.yaml`
        """
        from data_prep.store.files import base_name  # noqa: PLC0415 - keeps `--help` fast
        from search.cluster.jobs import fetch, latest  # noqa: PLC0415 - keeps `--help` fast

        place = Place(cluster, address, port)
        found = latest(place, job, print_line)
        out = out or f"runs/{base_name(found.run_dir)}"
        fetch(found, place, out, print_line)
        following = command("blendfold blend", out, options={"--data": "PREPARED"})
        print_line(f"wrote {out}; next: {following}, or submit {out}/blends/launched")


def _command(verb: str, job: str | None, place: Place) -> str:
    return command("blendfold", verb, *([job] if job else []), options=place.options)


def _follow(name: str | None, place: Place) -> None:
    from search.cluster.jobs import follow  # noqa: PLC0415 - keeps `--help` fast

    try:
        job, status = follow(name, place, print_line)
    except KeyboardInterrupt:
        print_line(f"{name or 'the job'} keeps running. To follow it again: {_command('attach', name, place)}")
        return
    if status == "SUCCEEDED":
        print_line(
            f"{job.name} is done; next: {_command('fetch', job.name, place)}, then `ray down` if nothing else runs "
            "there"
        )
    elif status in ("PENDING", "RUNNING"):
        print_line(
            f"the connection ended, but {job.name} keeps running. To follow it again: "
            f"{_command('attach', job.name, place)}"
        )
    else:
        raise InputError(
            f"{job.name} ended as {status}; its log is above. What is finished is kept: the same `launch` continues "
            "from there"
        )
