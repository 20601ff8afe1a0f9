from data_prep.store.files import absolute, join, read_bytes, write_bytes


def test_write_bytes_replaces(tmp_path):
    for content in (b"one", b"two, longer", b""):
        write_bytes(content, tmp_path / "file")
        assert read_bytes(tmp_path / "file") == content
    assert join(str(tmp_path) + "/", "a", "b") == f"{tmp_path}/a/b"


def test_paths_may_begin_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_bytes(b"found", "~/a/b")
    assert (tmp_path / "a" / "b").read_bytes() == read_bytes("~/a/b") == b"found"
    assert absolute("~/a") == str(tmp_path / "a")
    assert absolute("~/a/../b~") == str(tmp_path / "a/../b~")
