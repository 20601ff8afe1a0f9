"""Credentials inside URIs: every message shows them masked."""

import re

CREDENTIALS = re.compile(
    r"""
    (?P<scheme>(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://)
    (?: [^\s/@:]*:(?!\d+/)\S{0,1000}       # NAME:PASSWORD, not HOST:PORT/
      | (?<=s3://|tp://|ps://)[^\s/@]+       # with S3 and HTTP, a name alone is a key or a token
    ) @
  | (?P<option>[?&;][^\s=&?\#]{0,60}(?:secret|key|token|passw|pwd|sig|credential)[^\s=&]{0,60}=)
    [^\s&\#'"()<>]+?(?=[:,.;]?(?:[\s&\#'"()<>]|$))
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""What stands before the host of a URI, and the options after its `?` whose names tell that they are secret."""


def mask_credentials(text: str) -> str:
    """Return a text in which every credential inside a URI is masked."""
    return CREDENTIALS.sub(lambda found: f"{found['scheme']}***@" if found["scheme"] else f"{found['option']}***", text)
