"""What the user can fix: faults of the input, and of the disk or store where files are kept."""

import errno
from collections.abc import Collection

from data_prep.credentials import mask_credentials

STORAGE_FAULTS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EIO,
    errno.ENAMETOOLONG,
)
"""What a machine says when a disk is full, read-only, not the user's or broken, or a name is too long for it."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What it says when the disk accepts no more data from anyone."""
N_EXAMPLES = 20
LONGEST_QUOTE = 48


class InputError(ValueError):
    """Something the user gave is wrong; the command line prints it without a traceback and exits with code 2.

    The text must stand alone: the rule, what was found and where, what to do next. All faults of one input go together.
    """

    def __init__(self, *faults: str) -> None:
        self.faults = tuple(mask_credentials(fault) for fault in faults)
        super().__init__("\n".join(self.faults))


class InputFaults:
    """Collects faults, groups those that break the same rule, and raises them together."""

    def __init__(self) -> None:
        self._examples: dict[tuple[str, str], list[str]] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, where: str, rule: str, *, place: str | None = None, found: str | None = None) -> None:
        """Add one fault, at a `place` such as `line 7`; those with the same `where` and `rule` are listed together."""
        key = (where, rule)
        self._counts[key] = self._counts.get(key, 0) + 1
        examples = self._examples.setdefault(key, [])
        if place is not None and len(examples) < N_EXAMPLES:
            examples.append(place + ("" if found is None else f" {quote(found)}"))

    def raise_all(self) -> None:
        """Raise all collected faults, if there are any.

        Raises:
            InputError: one fault per broken rule, with its first examples and their number.
        """
        if self:
            raise InputError(*(self._sentence(key) for key in self._counts))

    def _sentence(self, key: tuple[str, str]) -> str:
        where, rule = key
        examples, count = self._examples[key], self._counts[key]
        if not examples:
            return f"{where}: {rule}"
        more = f" and {count - len(examples):,} more" if count > len(examples) else ""
        return f"{where}: {rule}; found {count:,}: {', '.join(examples)}{more}"


class StoreError(OSError):
    """An object store refuses a request or cannot be reached; `number` is the `errno` of the same fault of a disk."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, mask_credentials(text))

    def __str__(self) -> str:
        return str(self.strerror)


def storage_fault(error: BaseException, codes: Collection[int] = STORAGE_FAULTS) -> OSError | None:
    """Return the disk or store error behind an error, if its number is one of `codes`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in codes:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None


def quote(text: str) -> str:
    """Return `text` in quotes with control characters escaped, cut to a readable length."""
    return repr(text if len(text) <= LONGEST_QUOTE else text[:LONGEST_QUOTE] + "...")
