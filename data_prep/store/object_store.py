"""Object stores such as S3: opening a URI, retrying requests, and turning store errors into advice."""

import errno
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from data_prep.credentials import mask_credentials
from data_prep.errors import InputError, StoreError

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
REGION_VARIABLES = ("AWS_REGION", "AWS_DEFAULT_REGION")
AWS_VARIABLES = (*ENDPOINT_VARIABLES, *REGION_VARIABLES, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")
FIRST_REGION = "us-east-1"
OPTIONS = ("endpoint_override", "region", "scheme", "tls_ca_file_path")
"""What may follow the `?` of an S3 URI; the names are pyarrow's."""
RETRIES = 10
"""Attempts of the S3 client at a refused request: the pauses start at 0 and 50 ms and then double, 25 s in all."""
FIRST_RETRIES = 6
"""The same for a process's first request, which shows whether the store is there at all: 2 s in all."""
CONNECT_SECONDS = 3.0
GCS_SECONDS = 25
"""How long the client of Google's store retries; left to itself, for a quarter of an hour."""
REFUSAL_CUT_OFF = "Failed to flush response stream"
"""What pyarrow says when a refusal is longer than the answer that it asked for."""
T = TypeVar("T")

ADVICE = (
    (
        r"DefaultAzureCredential|OAuth2 access token",
        errno.EACCES,
        "this machine has no credentials for the store; `az login` or `gcloud auth application-default login` helps",
    ),
    (
        r"HTTP status 507|StorageFull|QuotaExceeded|InsufficientStorage|TooManyBytes",
        errno.ENOSPC,
        "the store has no space left; free some, or raise the quota",
    ),
    (
        r"INVALID_ACCESS_KEY_ID|SIGNATURE_DOES_NOT_MATCH|InvalidAccessKeyId|SignatureDoesNotMatch|INVALID_CLIENT_TOKEN"
        r"|UNRECOGNIZED_CLIENT|EXPIRED_TOKEN|ExpiredToken|InvalidToken|MISSING_AUTHENTICATION_TOKEN|TokenRefresh",
        errno.EACCES,
        "the store does not accept the credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (AWS_SESSION_TOKEN "
        "where they are temporary) or a profile in ~/.aws, on every node",
    ),
    (
        r"ACCESS_DENIED|AccessDenied|HTTP status 403",
        errno.EACCES,
        "access is denied; the credentials in use (or anonymous access, if there are none) need the right to "
        "list, read, write and delete there",
    ),
    (r"NO_SUCH_BUCKET|NoSuchBucket", errno.EACCES, "there is no such bucket; create it first, or fix its name"),
    (
        r"PermanentRedirect|AuthorizationHeaderMalformed|HTTP status 301|IllegalLocationConstraint",
        errno.EACCES,
        "the bucket is in another region; set AWS_REGION, or add it to the path: `?region=eu-central-1`",
    ),
    (
        r"NETWORK_CONNECTION|curlCode|resolve host|REQUEST_TIMEOUT",
        errno.EIO,
        "the store cannot be reached; check the network, its region and the endpoint (`?endpoint_override=HOST:PORT` "
        "or AWS_ENDPOINT_URL_S3; without them, it is that of AWS)",
    ),
    (
        r"SLOW_DOWN|SlowDown|SERVICE_UNAVAILABLE|THROTTL|HTTP status 5\d\d|INTERNAL_FAILURE|InternalError",
        errno.EIO,
        "the store kept refusing the request; try again later",
    ),
)
"""Pattern in pyarrow's message, error number, and what it means to a user. The first match counts."""


def is_uri(path: str | Path) -> bool:
    """Tell whether a path is a URI rather than one of this machine."""
    return "://" in str(path)


def open_uri(uri: str) -> tuple[fs.FileSystem, str]:
    """Return the filesystem of a URI and the path inside it.

    Raises:
        InputError: not a URI that can be opened, or one with credentials or unknown options in it.
        StoreError: the bucket does not exist, or does not accept these credentials.
    """
    parts = _split(uri)
    if parts.scheme == "s3":
        bucket, key, options = _parse(parts)
        store = _Bucket.here(bucket, options)
        _check_once(store, key)
        return _client(store, RETRIES), f"{bucket}/{key}".rstrip("/")
    patience = f"{'&' if parts.query else '?'}retry_limit_seconds={GCS_SECONDS}" if parts.scheme == "gs" else ""
    try:
        filesystem, inner = fs.FileSystem.from_uri(uri + patience)
    except (pa.ArrowException, OSError) as error:
        said = str(error).partition("\n")[0]
        raise InputError(f"{uri}: not a path or URI that pyarrow.fs can open ({said})") from error
    place = f"{parts.scheme}://{parts.netloc}"
    if place not in _answered:
        with store_errors(place):  # Azure's client ends the process where a later request is the first to be refused
            filesystem.get_file_info(inner)
        _answered.add(place)
    return filesystem, inner


def refuse_credentials(path: str | Path) -> None:
    """Raise `InputError` if a path is a URI with credentials in it."""
    if (masked := mask_credentials(str(path))) != str(path):
        raise InputError(
            f"{masked}: a path may not hold credentials, because it is written into files and messages; the store's "
            f"own variables or files hold them (for S3 AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws)"
        )


def split_options(path: str | Path) -> tuple[str, str]:
    """Return a path without its options, and the options from the `?` on; only URIs have any."""
    text = str(path)
    place, mark, options = text.partition("?") if is_uri(text) else (text, "", "")
    return place, mark + options


@contextmanager
def store_errors(path: str | Path) -> Iterator[None]:
    """Turn errors of an object store into `StoreError`; "not found" passes through unchanged."""
    try:
        yield
    except pa.ArrowException as error:
        raise explain_store_error(error, path) from error
    except OSError as error:
        if isinstance(error, StoreError) or error.errno is not None or not is_uri(path):
            raise
        raise explain_store_error(error, path) from error


def explain_store_error(error: Exception, path: str | Path) -> StoreError:
    """Return a store's error as one that says what to do."""
    said = str(error)
    for pattern, number, advice in ADVICE:
        if re.search(pattern, said):
            return StoreError(number, f"{path}: {advice} ({said})")
    return StoreError(errno.EIO, f"{path}: the store failed ({said})")


def retry_read(read: Callable[[], T]) -> T:
    """Read, and retry what the S3 client does not: a refusal that is longer than the bytes that were asked for.

    The client retries other refusals by itself. When it reads a few bytes, the text of a refusal overflows its buffer,
    and it raises `REFUSAL_CUT_OFF` instead. Pauses start at 50 ms and double.
    """
    for attempt in range(RETRIES):
        try:
            return read()
        except OSError as error:
            if REFUSAL_CUT_OFF not in str(error):
                raise
            time.sleep(0.05 * 2**attempt)
    return read()


def _split(uri: str) -> SplitResult:
    """Return the parts of a URI that holds no credentials."""
    refuse_credentials(uri)
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise InputError(f"{uri}: not a URI ({error})") from error


def _parse(parts: SplitResult) -> tuple[str, str, tuple[tuple[str, str], ...]]:
    """Return bucket, key and options of an S3 URI."""
    uri = parts.geturl()
    options = tuple(parse_qsl(parts.query, keep_blank_values=True))
    if unknown := [name for name, _ in options if name not in OPTIONS]:
        raise InputError(f"{uri}: unknown option {', '.join(unknown)} after the `?`; known: {', '.join(OPTIONS)}")
    if not parts.netloc:
        raise InputError(f"{uri}: names no bucket; write s3://BUCKET/FOLDER")
    return parts.netloc, unquote(parts.path).strip("/"), options


@dataclass(frozen=True)
class _Bucket:
    """A bucket as it is reached from here; a difference in any field makes it another one."""

    bucket: str
    options: tuple[tuple[str, str], ...]
    environment: tuple[str, ...]

    @classmethod
    def here(cls, bucket: str, options: tuple[tuple[str, str], ...]) -> "_Bucket":
        return cls(bucket, options, tuple(os.environ.get(name, "") for name in AWS_VARIABLES))


@lru_cache(maxsize=16)
def _client(store: _Bucket, retries: int) -> fs.FileSystem:
    settings = dict(store.options)
    endpoint = settings.get("endpoint_override") or _first_of(ENDPOINT_VARIABLES)
    scheme, _, host = endpoint.rpartition("://")
    region = settings.get("region") or _first_of(REGION_VARIABLES)
    return fs.S3FileSystem(
        endpoint_override=host or None,
        scheme=settings.get("scheme") or scheme or None,
        region=region or (FIRST_REGION if endpoint else fs.resolve_s3_region(store.bucket)),
        tls_ca_file_path=settings.get("tls_ca_file_path"),
        connect_timeout=CONNECT_SECONDS,
        allow_delayed_open=True,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=retries),
    )


_answered: set[_Bucket | str] = set()
"""The stores that this process has reached."""


def _check_once(store: _Bucket, key: str) -> None:
    """Send one request with few retries, the first time that a process uses a store: it must list what lies there."""
    if store not in _answered:
        folder = "/".join(filter(None, (store.bucket, key, ".blendfold")))
        with store_errors(f"s3://{store.bucket}"), suppress(FileNotFoundError):
            _client(store, FIRST_RETRIES).get_file_info(fs.FileSelector(folder))
        _answered.add(store)


def _first_of(variables: tuple[str, ...]) -> str:
    return next((value for name in variables if (value := os.environ.get(name))), "")
