from data_prep.store.files import join, read_bytes, write_bytes


def test_write_bytes_replaces(tmp_path):
    for content in (b"one", b"two, longer", b""):
        write_bytes(content, tmp_path / "file")
        assert read_bytes(tmp_path / "file") == content
    assert join(str(tmp_path) + "/", "a", "b") == f"{tmp_path}/a/b"
