"""Files in an object store: a real S3 API on loopback, sound and with faults."""

import errno
import time
from collections.abc import Callable

import pyarrow as pa
import pytest

from data_prep.errors import FULL_DISK, InputError, StoreError, storage_fault
from data_prep.store import object_store
from data_prep.store.files import (
    base_name,
    exists,
    is_file,
    is_folder,
    join,
    list_names,
    list_sizes,
    move,
    open_file,
    read_bytes,
    remove,
    remove_folder,
    write_bytes,
)
from data_prep.store.tables import DamagedTableError, read_table, write_table
from store_server import Store, each_tenth

SCHEMA = pa.schema([("word", pa.string()), ("number", pa.int32())])
TABLE = pa.table({"word": ["a", "b", None], "number": pa.array([1, 2, 3], pa.int32())})
BIG = 12_000_000
"""Bytes that pyarrow sends in several parts."""


def put(store: Store) -> list[str]:
    """Write five files, the table among them; return their URIs."""
    uris = [join(store.uri, "run", part, f"file-{number}") for part in ("one", "two") for number in range(2)]
    for number, uri in enumerate(uris):
        write_bytes(b"x" * (number + 1), uri)
    write_table(TABLE, join(store.uri, "run", "table.arrow"), schema=SCHEMA)
    return [*uris, join(store.uri, "run", "table.arrow")]


def test_files_in_a_bucket_are_as_good_as_files_in_a_folder(store: Store) -> None:
    uris = put(store)
    assert [len(read_bytes(uri)) for uri in uris[:4]] == [1, 2, 3, 4]
    assert read_table(uris[4], schema=SCHEMA).equals(TABLE)
    assert list_names(join(store.uri, "run")) == ["one", "table.arrow", "two"]
    sizes = list_sizes(join(store.uri, "run"))
    assert {name: sizes[name] for name in sizes if "file" in name} == {
        "one/file-0": 1,
        "one/file-1": 2,
        "two/file-0": 3,
        "two/file-1": 4,
    }
    assert (is_file(uris[0]), is_folder(join(store.uri, "run")), exists(join(store.uri, "nowhere"))) == (1, 1, 0)
    assert list_names(join(store.uri, "nowhere")) == []
    move(uris[0], join(store.uri, "moved"))
    assert (read_bytes(join(store.uri, "moved")), exists(uris[0])) == (b"x", False)
    remove(uris[1])
    remove(uris[1])
    remove_folder(join(store.uri, "run", "two"))
    remove_folder(join(store.uri, "run", "two"))
    assert [name for name in list_sizes(store.uri) if "file" in name] == []
    write_bytes(b"\xef\xbb\xbfone\r\ntwo\n", uris[0])
    with open_file(uris[0]) as file:
        assert file.read() == b"\xef\xbb\xbfone\r\ntwo\n"
    for absent in (read_bytes, read_table):
        with pytest.raises(InputError, match="no such file"):
            absent(uris[1])
    with pytest.raises(FileNotFoundError, match="No such file or directory: 's3://"), open_file(uris[1]):
        pass


def test_an_endpoint_may_follow_the_path(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3")
    folder = join(f"{store.uri}/a/b{store.options}", "c")
    assert folder == f"{store.uri}/a/b/c{store.options}"
    write_bytes(b"here", join(folder, "d.bin"))
    assert read_bytes(f"{store.uri}/a/b/c/d.bin{store.options}") == b"here"
    assert list_names(f"{store.uri}/a/b/{store.options}") == ["c"]
    assert base_name(folder) == "c"
    assert join("/a?b/", "c") == "/a?b/c", "a question mark in a local name is part of it"


def test_a_small_file_is_put_in_one_request_and_looked_at_in_another(store: Store) -> None:
    exists(store.uri)
    store.door.counts.clear()
    write_bytes(b"small", join(store.uri, "a", "b", "small"))
    assert store.door.counts == {"PUT": 1, "HEAD": 1}
    store.door.counts.clear()
    assert read_bytes(join(store.uri, "a", "b", "small")) == b"small"
    assert store.door.counts == {"HEAD": 1, "GET": 1}


def test_a_listing_opens_no_file(store: Store) -> None:
    put(store)
    store.door.counts.clear()
    assert len(list_sizes(join(store.uri, "run"))) == 5
    assert list_names(join(store.uri, "run", "one")) == ["file-0", "file-1"]
    assert store.door.counts == {"GET": 2}


def test_a_store_that_refuses_each_tenth_request_does_no_harm(store: Store) -> None:
    store.door.refuse = each_tenth
    content = bytes(range(256)) * (BIG // 256)
    for number in range(2):
        write_bytes(content, join(store.uri, f"big-{number}"))
        assert read_bytes(join(store.uri, f"big-{number}")) == content
        write_table(TABLE, join(store.uri, f"table-{number}"), schema=SCHEMA)
        assert read_table(join(store.uri, f"table-{number}")).equals(TABLE)
        remove(join(store.uri, f"big-{number}"))
    assert list_names(store.uri) == [f"table-{number}" for number in range(2)]
    assert store.door.refused >= 2


@pytest.mark.parametrize("size", [3, BIG + 3])
def test_a_refusal_that_is_longer_than_the_answer_is_retried(store: Store, size: int) -> None:
    uri, content = join(store.uri, "file"), b"abc" * (BIG // 3 + 1)
    write_bytes(content[:size], uri)
    refused: set[str] = set()

    def refuse_once(_number: int, method: str, path: str) -> tuple[int, str] | None:
        if method != "GET" or path in refused:
            return None
        refused.add(path)
        return 503, "SlowDown"

    store.door.refuse = refuse_once
    assert read_bytes(uri) == content[:size]
    refused.clear()
    with open_file(uri) as file:
        assert file.read() == content[:size]
    assert store.door.refused == 2


def test_an_upload_that_fails_leaves_what_was_there(store: Store) -> None:
    uri = join(store.uri, "file")
    write_bytes(b"before", uri)
    store.door.refuse = lambda _number, method, _path: (403, "AccessDenied") if method in ("PUT", "POST") else None
    for content in (b"after", b"a" * BIG):
        with pytest.raises(StoreError, match="access is denied"):
            write_bytes(content, uri)
    store.door.refuse = lambda *_: None
    assert read_bytes(uri) == b"before"


def test_a_file_that_the_store_cut_short_is_noticed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write_table(TABLE, join(store.uri, "table"), schema=SCHEMA)
    whole = read_bytes(join(store.uri, "table"))
    write_bytes(whole[:-100], join(store.uri, "table"))
    with pytest.raises(DamagedTableError, match="not a whole Arrow table"):
        read_table(join(store.uri, "table"))


@pytest.mark.parametrize(
    ("status", "code", "number", "said"),
    [
        (403, "InvalidAccessKeyId", errno.EACCES, "does not accept the credentials; set AWS_ACCESS_KEY_ID"),
        (403, "SignatureDoesNotMatch", errno.EACCES, "does not accept the credentials"),
        (400, "ExpiredToken", errno.EACCES, "does not accept the credentials"),
        (403, "AccessDenied", errno.EACCES, "access is denied"),
        (404, "NoSuchBucket", errno.EACCES, "no such bucket"),
        (301, "PermanentRedirect", errno.EACCES, "another region; set AWS_REGION"),
        (507, "XMinioStorageFull", errno.ENOSPC, "no space left"),
        (403, "QuotaExceeded", errno.ENOSPC, "no space left"),
    ],
)
def test_each_refusal_says_what_to_do(store: Store, status: int, code: str, number: int, said: str) -> None:
    store.door.refuse = lambda *_: (status, code)
    begun = time.monotonic()
    with pytest.raises(StoreError, match=rf"^s3://{store.bucket}: .*{said}") as caught:
        exists(join(store.uri, "run"))
    assert time.monotonic() - begun < 5
    assert caught.value.errno == number
    assert not isinstance(caught.value, InputError), "it may pass, so nothing is taken for absent or damaged"
    assert (storage_fault(caught.value, FULL_DISK) is not None) == (number == errno.ENOSPC)


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_store_that_fails_is_not_taken_for_a_damaged_table(store: Store, method: str) -> None:
    write_table(TABLE, join(store.uri, "table"), schema=SCHEMA)
    store.door.refuse = lambda _number, asked, _path: (403, "AccessDenied") if asked == method else None
    with pytest.raises(StoreError, match="access is denied"):
        read_table(join(store.uri, "table"))


def test_a_bucket_that_does_not_exist_is_an_error_at_once(store: Store) -> None:
    with pytest.raises(StoreError, match=r"^s3://nowhere: there is no such bucket; create it first"):
        exists("s3://nowhere/run")


def test_an_endpoint_where_nobody_listens_is_an_error_in_seconds(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached; check the network, its region and the endpoint"):
        exists(f"{store.uri}/run?endpoint_override=127.0.0.1:9&scheme=http")
    assert time.monotonic() - begun < 15


def test_all_retries_are_for_stores_that_have_answered(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "RETRIES", 2)
    object_store._client.cache_clear()
    exists(store.uri)
    store.door.refuse = lambda *_: (503, "SlowDown")
    store.door.counts.clear()
    with pytest.raises(StoreError, match="kept refusing the request"):
        exists(join(store.uri, "run"))
    assert store.door.counts.total() == 3
    object_store._client.cache_clear()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://key:secret@bucket/run", r"s3://\*\*\*@bucket/run: a path may not hold credentials"),
        ("gs://key:secret@bucket/run", r"gs://\*\*\*@bucket/run: a path may not hold credentials"),
        ("abfss://c@a/x?account_key=secret", r"account_key=\*\*\*: a path may not hold credentials"),
        ("abfs://", "not a path or URI"),
        ("s3://[bucket/run", "not a URI"),
        ("s3://bucket/run?colour=red", "unknown option colour after the `\\?`; known: endpoint_override"),
        ("s3:///run", "names no bucket"),
        ("nonsense://bucket/run", "not a path or URI"),
    ],
)
def test_what_is_not_a_uri_is_an_error(uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        exists(uri)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("use", [exists, read_bytes, lambda uri: write_bytes(b"x", uri)])
def test_an_error_of_pyarrow_without_a_number_is_one_of_the_store(use: Callable[[str], object]) -> None:
    with pytest.raises(StoreError, match=r"abfs://account\.dfs\.core\.windows\.net: the store failed"):
        use("abfs://account.dfs.core.windows.net/no-container-before-the-account")
