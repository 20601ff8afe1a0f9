"""What the user can mend: faults of the input, and of the place where files are kept."""

import errno
from collections.abc import Collection

STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO)
"""What a machine says when a disk is full, read-only, not the user's or broken."""
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""What it says when a disk takes nothing more, whoever asks."""


class InputError(ValueError):
    """Something the user gave is wrong: a file, a setting, an argument.

    The command line prints it without a traceback and exits with code 2, so the text must stand alone:
    the rule, what was found and where, what to do next.

    Args:
        *faults: one sentence or short paragraph each; all faults of one input belong in one error.
    """

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StoreError(OSError):
    """An object store refuses, or cannot be reached; the text stands alone, as that of an `InputError`.

    Args:
        number: as the same fault of a disk has (`errno`).
        text: where, what it means, and what to do.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(number, text)

    def __str__(self) -> str:
        return str(self.strerror)


def storage_fault(error: BaseException, codes: Collection[int] = STORAGE_FAULTS) -> OSError | None:
    """Return the fault of a disk that an error comes from, if it is one of `codes`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in codes:
            return cause
        cause = cause.__cause__ or cause.__context__
    return None
