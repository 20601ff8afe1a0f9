"""What a file's first bytes say about it, whatever its name says."""

import codecs
from pathlib import Path

from data_prep.errors import InputError

POINTER_START = b"version https://git-lfs.github.com/spec/"
POINTER = "a git-LFS pointer; fetch the file that it stands for with `git lfs pull`"
POINTER_BYTES = 1024
"""A pointer is smaller."""
UTF16 = "UTF-16 text; save it as UTF-8"
PARQUET = "a Parquet file"
ARROW = "an Arrow file"
STARTS = {
    POINTER_START: POINTER,
    codecs.BOM_UTF16_LE: UTF16,
    codecs.BOM_UTF16_BE: UTF16,
    b"PK\x03\x04": "a zip archive (.zip, .npz, .xlsx); unpack it first",
    b"\x1f\x8b": "gzip-compressed; unpack it first",
    b"PAR1": PARQUET,
    b"ARROW1": ARROW,
    b"\x93NUMPY": "a numpy array",
    b"<!DOCTYPE html": "a web page; download the file itself",
    b"<html": "a web page; download the file itself",
}
START_BYTES = max(map(len, STARTS))


def start_says(start: bytes) -> str | None:
    """Return what a file is that begins like this, and what to do; None: nothing that is known here."""
    return next((what for known, what in STARTS.items() if start.startswith(known)), None)


def refuse_pointers(folder: str | Path) -> None:
    """Check a local folder of a checkpoint.

    Raises:
        InputError: a file in it is a git-LFS pointer; names all.
    """
    small = [path for path in Path(folder).iterdir() if path.is_file() and path.stat().st_size < POINTER_BYTES]
    faults = [f"{path}: is {POINTER}" for path in sorted(small) if path.read_bytes().startswith(POINTER_START)]
    if faults:
        raise InputError(*faults)
