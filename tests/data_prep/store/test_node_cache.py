"""The cache of a node: shared by processes, held to a limit, sparing what is in use."""

import multiprocessing
import os
import random
import time
from pathlib import Path

import pytest

from data_prep.errors import InputError
from data_prep.store import node_cache
from data_prep.store.files import join, write_bytes
from data_prep.store.node_cache import NodeCache, default_limit, fetch_folder
from models.backbones.locate_backbone import locate_backbone
from store_server import Store

KILOBYTE = 1e-6
"""In gigabytes."""


def kilobyte(path: Path) -> None:
    path.write_bytes(b"x" * 1000)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"locks"}


def test_something_is_made_once(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        kilobyte(path)

    for _ in range(2):
        with NodeCache(tmp_path).use("a", make) as path:
            assert path.read_bytes() == b"x" * 1000
    assert len(made) == 1
    NodeCache(tmp_path).discard("a")
    with NodeCache(tmp_path).use("a", make):
        assert len(made) == 2


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, gigabytes=3.5 * KILOBYTE)
    (tmp_path / "of-someone-else").write_bytes(b"x" * 100_000)
    for age, name in enumerate("cab"):
        with cache.use(name, kilobyte) as path:
            pass
        os.utime(path, (1000 + age, 1000 + age))
    with cache.use("c", kilobyte):
        pass
    with cache.use("d", kilobyte):
        pass
    assert names(tmp_path) == {"b", "c", "d", "of-someone-else"}


def test_what_is_in_use_stays(tmp_path: Path) -> None:
    cache = NodeCache(tmp_path, gigabytes=1.5 * KILOBYTE)
    with cache.use("used", kilobyte) as used:
        os.utime(used, (1000, 1000))
        for name in "ab":
            with cache.use(name, kilobyte):
                pass
        assert names(tmp_path) == {"used", "b"}
    with cache.use("c", kilobyte):
        pass
    assert names(tmp_path) == {"c"}


def test_a_folder_counts_with_all_that_is_in_it(tmp_path: Path) -> None:
    def make(path: Path) -> None:
        (path / "deep").mkdir(parents=True)
        kilobyte(path / "deep" / "one")
        kilobyte(path / "two")

    cache = NodeCache(tmp_path, gigabytes=2.5 * KILOBYTE)
    for name in ("a", "b"):
        with cache.use(name, make):
            pass
    assert names(tmp_path) == {"b"}


def test_what_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    def fail(path: Path) -> None:
        kilobyte(path)
        raise OSError(28, "No space left on device")

    (tmp_path / "a.1-killed.partial").mkdir()
    with pytest.raises(OSError, match="No space left"), NodeCache(tmp_path).use("a", fail):
        pass
    assert names(tmp_path) == set()


def test_processes_that_ask_at_once_share_what_the_first_one_makes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    together, log = context.Barrier(6), tmp_path / "log"

    def make(path: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        path.mkdir()
        time.sleep(0.2)
        kilobyte(path / "file")

    def ask() -> None:
        together.wait(30)
        with NodeCache(tmp_path / "cache").use("a", make) as path:
            assert (path / "file").stat().st_size == 1000

    processes = [context.Process(target=ask) for _ in range(6)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0] * 6
    assert log.read_text() == "made\n"
    assert names(tmp_path / "cache") == {"a"}


def test_many_processes_in_a_cache_that_is_too_small_find_what_they_ask_for(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")

    def make(path: Path) -> None:
        path.mkdir()
        kilobyte(path / "file")

    def ask(seed: int) -> None:
        generator = random.Random(seed)
        cache = NodeCache(tmp_path / "cache", gigabytes=2.5 * KILOBYTE)
        for _ in range(200):
            with cache.use(generator.choice("abcd"), make) as path:
                assert (path / "file").stat().st_size == 1000

    processes = [context.Process(target=ask, args=(seed,)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert len(names(tmp_path / "cache")) <= 2 + 4, "the limit, and what each had in use"


def test_the_limit_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BLENDFOLD_CACHE_GB", raising=False)
    assert default_limit() == 50.0
    monkeypatch.setenv("BLENDFOLD_CACHE_GB", "2.5")
    assert default_limit() == 2.5
    for text in ("much", "-1", "nan"):
        monkeypatch.setenv("BLENDFOLD_CACHE_GB", text)
        with pytest.raises(InputError, match=f"BLENDFOLD_CACHE_GB={text}: must be a number of gigabytes"):
            default_limit()


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the cache of this process, which holds nothing."""
    monkeypatch.setenv("BLENDFOLD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(node_cache, "_fetched", None)
    return tmp_path / "cache"


def test_a_backbone_comes_from_a_store_once(store: Store, cached: Path, tiny_bert: str) -> None:
    checkpoints = join(store.uri, "checkpoints")
    for path in Path(tiny_bert).iterdir():
        write_bytes(path.read_bytes(), join(checkpoints, "org", "tiny", path.name))
    files = locate_backbone("org/tiny", checkpoints)
    store.door.counts.clear()
    config = files.config()
    assert files.model(config).num_parameters() > 0
    assert files.tokenizer.get_vocab()
    assert store.door.counts.total() == 0, "the files are here"
    assert locate_backbone(join(checkpoints, "org", "tiny")).config().to_dict() == config.to_dict()
    (copy,) = (cached / name for name in names(cached))
    assert locate_backbone("org/tiny", checkpoints).place == str(copy)
    for path in Path(tiny_bert).iterdir():
        assert (copy / path.name).read_bytes() == path.read_bytes()
    assert locate_backbone("org/other", checkpoints).place == "org/other", "that one is the hub's"
    with pytest.raises(InputError, match=r"--backbones s3://.*/nothing: no such folder"):
        locate_backbone("org/tiny", join(store.uri, "nothing"))
    with pytest.raises(InputError, match="nothing: no such folder"):
        locate_backbone(join(checkpoints, "nothing"))


def test_a_folder_that_changed_is_fetched_again_and_the_old_copy_may_go(
    store: Store, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BLENDFOLD_CACHE_GB", "0")
    folder = join(store.uri, "folder")
    write_bytes(b"one", join(folder, "sub", "file"))
    first = fetch_folder(folder)
    assert (first / "sub" / "file").read_bytes() == b"one"
    assert fetch_folder(folder) == first
    write_bytes(b"three", join(folder, "sub", "file"))
    second = fetch_folder(folder)
    assert (second / "sub" / "file").read_bytes() == b"three"
    assert names(cached) == {second.name}
