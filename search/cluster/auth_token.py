"""The token that this user's Ray asks for: where it is, how it is made, and where it would travel in clear."""

import os
import secrets
import socket
from pathlib import Path
from urllib.parse import urlsplit

TOKEN_FILE = Path("~/.ray/auth_token")
TOKEN_PLACES = (
    f"it is read from RAY_AUTH_TOKEN, from the file that RAY_AUTH_TOKEN_PATH names, or from {TOKEN_FILE}, and must be "
    "the cluster's"
)


def read_token() -> str:
    """Return the token of this user's clusters; empty if there is none."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    try:
        return Path(os.environ.get("RAY_AUTH_TOKEN_PATH", TOKEN_FILE)).expanduser().read_text().strip()
    except (OSError, RuntimeError):  # a user without a home has none
        return ""


def make_token() -> None:
    """Make a token where this user has none, as Ray would for everyone to read; one that is there becomes private.

    A user without a home that can be written gets one for this process and its children.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or "RAY_AUTH_TOKEN" in os.environ:
        return
    try:
        path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH", TOKEN_FILE)).expanduser()
        if read_token():
            path.chmod(0o600)
        else:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.touch(0o600, exist_ok=False)
            path.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
    except (OSError, RuntimeError):
        if not read_token():
            os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def clear_text_warning(address: str) -> str:
    """Return a warning if our token would leave this machine unencrypted on its way to an address; empty otherwise."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.scheme == "https" or not read_token() or _is_this_machine(parts.hostname or ""):
        return ""
    return (
        f"--address {address}: Ray encrypts nothing, so who listens on the way there can take the token and run code "
        "on the cluster; use a network that only its machines share, or an SSH tunnel (docs/security.md)"
    )


def _is_this_machine(host: str) -> bool:
    """Tell whether a host is this machine: only its own addresses can be bound."""
    try:
        for family, kind, protocol, _, place in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family, kind, protocol) as end:
                end.bind(place)
    except OSError:
        return False
    return True
