"""Sets up what `ray up cluster.yaml` needs on AWS, once: a bucket, a closed security group, roles, an image."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from data_prep.errors import InputError
from data_prep.extras import require
from data_prep.store.files import read_bytes, write_bytes

GROUP, HEAD, WORKER = "blendfold", "blendfold-head", "blendfold-worker"
IMAGE = "Deep Learning Base OSS Nvidia Driver GPU AMI (Ubuntu 24.04) *"
"""Name of Amazon's images with NVIDIA's driver and Python 3.12."""
EC2_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}

Note = Callable[[str], None]


def set_up(
    bucket: str,
    cluster: str,
    *,
    region: str,
    ssh_from: str,
    note: Note,
    find_image: Callable[[Any, str], str] | None = None,
) -> None:
    """Create what is missing and write it into a cluster file, on its lines marked `aws`; what exists stays.

    Only `ssh_from` may reach port 22. `find_image(ec2, region)` returns the id of the image; None: `newest_image`.

    Raises:
        InputError: boto3 or credentials are missing, AWS refuses, or the cluster file has no such lines.
    """
    if not re.fullmatch(r"\d+(\.\d+){3}/\d+", ssh_from) or int(ssh_from.rsplit("/", 1)[1]) < 16:
        raise InputError(
            f"--ssh-from {ssh_from}: expected your own address as A.B.C.D/32 (`curl https://checkip.amazonaws.com` "
            "prints it), or a network of /16 or smaller; the whole internet is never admitted"
        )
    text = read_bytes(cluster).decode()
    _filled(text, region=region, image="", group="", where=cluster)
    require("boto3")
    import boto3  # noqa: PLC0415 - an extra
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

    try:
        session = boto3.Session(region_name=region)
        _make_bucket(session.client("s3"), bucket, region, note)
        group = _make_group(session.client("ec2"), ssh_from, note)
        _make_roles(session.client("iam"), session.client("sts"), bucket, note)
        image = (find_image or newest_image)(session.client("ec2"), region)
    except (BotoCoreError, ClientError) as error:
        raise InputError(
            f"AWS: {error}. The credentials (`aws configure`, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) need "
            "permission to create buckets, security groups and roles"
        ) from error
    write_bytes(_filled(text, region=region, image=image, group=group, where=cluster).encode(), cluster)
    note(f"wrote image {image}, security group {group} and region {region} into {cluster}")


def _filled(text: str, *, region: str, image: str, group: str, where: str) -> str:
    values = {"region: ": region, "ImageId: ": image, "SecurityGroupIds: ": f"[{group}]"}
    for key, value in values.items():
        text, found = re.subn(rf"({re.escape(key)})\S+(\s+# aws)", rf"\g<1>{value}\g<2>", text)
        if not found:
            raise InputError(f"{where}: has no line with `{key}` marked `# aws`; start from cluster.yaml")
    return text


def _make_bucket(s3: Any, bucket: str, region: str, note: Note) -> None:
    if bucket in {found["Name"] for found in s3.list_buckets()["Buckets"]}:
        return
    place = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **place)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    note(f"made bucket {bucket}, closed to the public")


def _make_group(ec2: Any, ssh_from: str, note: Note) -> str:
    """Return the security group: SSH only from `ssh_from`, everything between its members."""
    vpcs = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not vpcs:
        raise InputError("AWS: the region has no default VPC; create one (`aws ec2 create-default-vpc`) and try again")
    vpc = vpcs[0]["VpcId"]
    found = ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": [GROUP]}, {"Name": "vpc-id", "Values": [vpc]}]
    )["SecurityGroups"]
    if found:
        group, rules = found[0]["GroupId"], found[0]["IpPermissions"]
    else:
        group = ec2.create_security_group(GroupName=GROUP, Description="blendfold clusters", VpcId=vpc)["GroupId"]
        members = [{"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]}]
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=members)
        rules = []
        note(f"made security group {group}")
    known = {address["CidrIp"] for rule in rules for address in rule["IpRanges"]}
    if ssh_from not in known:
        ssh = {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": ssh_from}]}
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[ssh])
        note(f"{group}: admits SSH from {ssh_from}")
    if known - {ssh_from}:
        others = ", ".join(sorted(known - {ssh_from}))
        note(f"{group}: also admits {others}, from earlier; remove any that are not yours")
    return str(group)


def _make_roles(iam: Any, sts: Any, bucket: str, note: Note) -> None:
    account = sts.get_caller_identity()["Account"]
    files: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": f"arn:aws:s3:::{bucket}"},
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
            "Resource": f"arn:aws:s3:::{bucket}/*",
        },
    ]
    machines: list[dict[str, Any]] = [
        {"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:CreateTags", "ec2:Describe*"], "Resource": "*"},
        {
            "Effect": "Allow",
            "Action": ["ec2:TerminateInstances", "ec2:StopInstances"],
            "Resource": "*",
            "Condition": {"StringLike": {"ec2:ResourceTag/ray-cluster-name": "*"}},
        },
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": f"arn:aws:iam::{account}:role/{WORKER}"},
    ]
    for role, statements in ((HEAD, [*files, *machines]), (WORKER, files)):
        _make_role(iam, role, statements, note)
    taken = (iam.exceptions.InvalidInputException, iam.exceptions.EntityAlreadyExistsException)
    with suppress(*taken):  # it exists if a spot instance ever ran
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")


def _make_role(iam: Any, role: str, statements: list[dict[str, Any]], note: Note) -> None:
    try:
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(EC2_TRUST))
        iam.create_instance_profile(InstanceProfileName=role)
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
        note(f"made role {role}")
    except iam.exceptions.EntityAlreadyExistsException:
        pass
    policy = {"Version": "2012-10-17", "Statement": statements}
    iam.put_role_policy(RoleName=role, PolicyName=role, PolicyDocument=json.dumps(policy))


def newest_image(ec2: Any, region: str) -> str:
    """Return the id of the newest of Amazon's images."""
    images = ec2.describe_images(
        Owners=["amazon"],
        Filters=[{"Name": "name", "Values": [IMAGE]}, {"Name": "architecture", "Values": ["x86_64"]}],
    )["Images"]
    if not images:
        raise InputError(f"AWS: {region} has no image named {IMAGE!r} by Amazon; choose another region")
    return str(max(images, key=lambda image: image["CreationDate"])["ImageId"])
