"""No credential inside a URI is ever shown."""

import time

import pytest

from data_prep.console import print_line
from data_prep.credentials import mask_credentials
from data_prep.errors import InputError, StoreError
from models.candidate import Candidate
from search.cluster.place import Place

URIS = {
    "s3://AKIA:SECRET@bucket/run": "s3://***@bucket/run",
    "s3://AKIA:SEC/RET@bucket/run": "s3://***@bucket/run",
    "s3://SECRET@bucket/run": "s3://***@bucket/run",
    "s3://bucket/run?region=eu&secret_key=SECRET": "s3://bucket/run?region=eu&secret_key=***",
    "s3://bucket/run?endpoint_override=http://me:SECRET@host:9": "s3://bucket/run?endpoint_override=http://***@host:9",
    "gs://user:SECRET@bucket/run": "gs://***@bucket/run",
    "hdfs://user:SECRET@host:9000/run": "hdfs://***@host:9000/run",
    "abfs://files:SECRET@account.dfs.core.windows.net/run": "abfs://***@account.dfs.core.windows.net/run",
    "abfss://files@account/run?account_key=SECRET+/==": "abfss://files@account/run?account_key=***",
    "http://user:SEC@RET@host:5000": "http://***@host:5000",
    "https://SECRET@host/x?sig=SECRET%3D&sv=1": "https://***@host/x?sig=***&sv=1",
    "https://host/x?X-Amz-Signature=SECRET&X-Amz-Credential=SECRET": "https://host/x?X-Amz-Signature=***&X-Amz-Credential=***",
    "postgresql+psycopg://me:SECRET@host/db": "postgresql+psycopg://***@host/db",
    "redis://:SECRET@host": "redis://***@host",
}


@pytest.mark.parametrize(("uri", "masked"), URIS.items())
def test_every_credential_is_masked_wherever_it_would_be_shown(
    uri: str, masked: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mask_credentials(uri) == masked
    assert str(InputError("fine", f"{uri}: refused ('{uri}')")) == f"fine\n{masked}: refused ('{masked}')"
    assert str(StoreError(5, f"({uri})")) == f"({masked})"
    print_line(f"{uri}, and more")
    assert capsys.readouterr().out == f"{masked}, and more\n"
    with pytest.raises(ValueError, match=r"a path may not hold credentials") as refused:
        Candidate(backbone=uri)
    assert masked in str(refused.value)
    with pytest.raises(InputError, match=r"jobs are submitted") as refusal:
        Place(None, uri)
    assert "SECRET" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "hdfs://namenode:9000/a@b",
        "hdfs://user@namenode:9000/x",
        "gs://anonymous@bucket/x",
        "abfss://files@account.dfs.core.windows.net/run",
        "http://127.0.0.1:8265/x@y",
        "http://[::1]:8265",
        "s3://bucket/monkeys?region=eu-central-1&scheme=http",
        "sqlite:///mlflow.db",
        "fold 0: name@host, key=value",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert mask_credentials(text) == text


@pytest.mark.parametrize("part", ["a", "a://", "?key", ";", "a:b@", "s3://k@"])
def test_masking_takes_no_longer_than_a_text_is_long(part: str) -> None:
    """No text takes time that grows with the square of its length: a table's field of a megabyte stands in errors."""
    text = part * (300_000 // len(part))
    start = time.process_time()
    mask_credentials(text)
    assert time.process_time() - start < 20.0
