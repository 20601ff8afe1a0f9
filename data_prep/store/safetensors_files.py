"""Safetensors files without torch: metadata, names and shapes of tensors, and a checksum of their values.

A file consists of the length of its header (8 bytes, little-endian), the header (JSON: name -> type, shape, place of
the data; strings under `__metadata__`), then the data.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data_prep.store.files import locate
from data_prep.store.object_store import retry_read, store_errors
from data_prep.store.sealed_records import MALFORMED, unseal

LENGTH_BYTES = 8
METADATA = "__metadata__"
TYPE_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
"""What torch calls a type of the format."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file."""

    kind: str
    """Its type in the words of the format: `F32`, `I64`, ..."""
    shape: tuple[int, ...]
    place: tuple[int, int]
    """Where its bytes begin and end in the data."""

    @property
    def n_values(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SafetensorsHeader:
    """The part of a file before the data."""

    metadata: dict[str, str]
    tensors: dict[str, StoredTensor]
    n_bytes: int
    """Where the data begins."""


def parse_header(content: bytes) -> SafetensorsHeader:
    """Read the header at the start of a file's content; metadata with a seal are checked.

    Raises:
        ValueError: the content is shorter than its header, or the header cannot be read or was altered.
    """
    length = int.from_bytes(content[:LENGTH_BYTES], "little")
    if len(content) < LENGTH_BYTES + length:
        raise ValueError("shorter than its own header says")
    try:
        entries: dict[str, Any] = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + length])
        metadata = unseal(entries.pop(METADATA, {}))
        tensors = {
            name: StoredTensor(entry["dtype"], tuple(entry["shape"]), tuple(entry["data_offsets"]))
            for name, entry in entries.items()
        }
    except MALFORMED as error:
        raise ValueError(f"not a whole header of tensors ({error})") from error
    return SafetensorsHeader(metadata, tensors, LENGTH_BYTES + length)


def read_header(path: str | Path) -> SafetensorsHeader:
    """Read the header of a file and nothing else.

    Raises:
        OSError: it cannot be read.
        ValueError: not a safetensors file.
    """
    filesystem, inner = locate(path)
    with store_errors(path), filesystem.open_input_file(inner) as stream:
        start = bytes(retry_read(partial(stream.read, LENGTH_BYTES)))
        length = min(int.from_bytes(start, "little"), stream.size())
        return parse_header(start + bytes(retry_read(partial(stream.read, length))))


def checksum_of_tensors(content: bytes) -> str:
    """Return the sha256 (hex) of the names, types, shapes and values in a file's content.

    Raises:
        ValueError: not a whole safetensors file.
    """
    header, view, digest = parse_header(content), memoryview(content), hashlib.sha256()
    if max((held.place[1] for held in header.tensors.values()), default=0) != len(content) - header.n_bytes:
        raise ValueError("does not end where its last tensor does")
    for name, held in sorted(header.tensors.items()):
        start, end = (header.n_bytes + place for place in held.place)
        if held.kind not in TYPE_NAMES:
            raise ValueError(f"unknown type {held.kind}")
        digest.update(f"{name}\0torch.{TYPE_NAMES[held.kind]}\0{held.shape}\0".encode())
        digest.update(view[start:end])
    return digest.hexdigest()
