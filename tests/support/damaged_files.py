"""Damage to files, drawn at random: flipped bits, changed digits, cut ends, swapped and lost files."""

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("flip", "digit", "truncate", "extend", "delete", "swap")
SNIPPETS = (
    *(
        '"',
        "'",
        ",",
        ";",
        "\t",
        "\n",
        "\r",
        "\r\n",
        "\0",
        "\ufeff",
        "\u202e",
        "\x1b[2J",
        "{",
        "}",
        "[",
        "]",
        ":",
        ": ",
        "- ",
    ),
    *("nan", "-inf", "1e400", "1e300", "-0", "010", "1:30", "on", "no", "null", "~", "NA", "true", "9" * 5000),
    *(
        "&a [*a]",
        "<<: *a",
        "!!python/object:os.system x",
        "? ",
        "%YAML 1.1\n",
        "---\n",
        "# ",
        "a" * 70_000,
        "[" * 300,
        "é",
        "漢",
    ),
)
"""What files that people write may hold by mistake or malice."""
AGE = 1_000_000_000
"""Seconds since 1970: when every file was written, as far as readers see."""
Snapshot = dict[str, bytes]


def snapshot(root: Path) -> Snapshot:
    """Return the content of every file below a folder, by its path from there."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def restore(root: Path, before: Snapshot) -> None:
    """Bring every file back to what it was, and remove those that were not there; all are of the same age."""
    now = snapshot(root)
    for name in now.keys() - before.keys():
        (root / name).unlink()
    for name, content in before.items():
        if now.get(name) != content:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        os.utime(root / name, (AGE, AGE))


@dataclass(frozen=True)
class Damage:
    """What was done to a file."""

    kind: str
    file: str
    detail: str

    def __str__(self) -> str:
        return f"{self.kind} {self.file} {self.detail}"


def do_damage(root: Path, files: Sequence[str], generator: random.Random) -> Damage:
    """Damage one of the files below a folder."""
    kind, name = generator.choice(KINDS), generator.choice(files)
    path = root / name
    content = bytearray(path.read_bytes())
    digits = [place for place, byte in enumerate(content) if chr(byte).isdigit()] if kind == "digit" else []
    place = generator.randrange(max(len(content), 1))
    detail = f"at {place} of {len(content)}"
    if kind == "delete":
        path.unlink()
    elif kind == "swap":
        other = generator.choice([other for other in files if Path(other).suffix == path.suffix])
        first, second = path.read_bytes(), (root / other).read_bytes()
        path.write_bytes(second)
        (root / other).write_bytes(first)
        detail = f"with {other}"
    elif kind == "extend":
        path.write_bytes(content + generator.randbytes(generator.randint(1, 9)))
    elif kind == "truncate":
        path.write_bytes(content[:place])
    elif content:
        if digits:
            place = generator.choice(digits)
            detail = f"at {place} of {len(content)}"
            content[place] = generator.choice([byte for byte in b"0123456789" if byte != content[place]])
        else:
            content[place] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
    for file in files:
        if (root / file).exists():
            os.utime(root / file, (AGE, AGE))
    return Damage(kind, name, detail)


def write_nonsense(path: Path, generator: random.Random) -> str:
    """Change a file that a person writes, once to three times; return what was done."""
    content, done = path.read_bytes(), []
    for _ in range(generator.randint(1, 3)):
        kind = generator.choice(("insert", "insert", "insert", "repeat", "drop", "flip", "cut"))
        place = generator.randrange(len(content) + 1)
        start, end = content.rfind(b"\n", 0, place) + 1, content.find(b"\n", place) + 1 or len(content)
        if kind == "insert":
            snippet = generator.choice(SNIPPETS)
            content = content[:place] + snippet.encode() + content[place:]
            kind = f"insert {snippet[:20]!r}"
        elif kind == "repeat":
            content = content[:end] + content[start:end] + content[end:]
        elif kind == "drop":
            content = content[:start] + content[end:]
        elif kind == "cut":
            content = content[:place]
        elif content:
            place = min(place, len(content) - 1)
            content = content[:place] + bytes([content[place] ^ 1 << generator.randrange(8)]) + content[place + 1 :]
        done.append(f"{kind} at {place}")
    path.write_bytes(content)
    return ", ".join(done)
