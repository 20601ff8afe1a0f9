"""The one exception that means "the user can mend this"."""


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
