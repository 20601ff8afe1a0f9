"""`GivenName`: what a person calls something; it is shown in tables and may become the name of a folder."""

from typing import Annotated

from pydantic import AfterValidator

LONGEST_NAME = 100
"""Characters; a file system takes 255 bytes, and a name is only a part."""
FOLDER_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""A name that becomes a folder's."""


def name_fault(name: str) -> str | None:
    """Return the rule that a name breaks, if it breaks one."""
    if name.strip() != name or not name or not name.isprintable():
        return "a name may not be empty, begin or end with a space, or hold control characters"
    return f"a name has at most {LONGEST_NAME} characters" if len(name) > LONGEST_NAME else None


def _check(name: str) -> str:
    if fault := name_fault(name):
        raise ValueError(fault)
    return name


GivenName = Annotated[str, AfterValidator(_check)]
