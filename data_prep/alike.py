"""`alike`: texts without what a reader overlooks."""

from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc


def alike(texts: pa.Array) -> pa.Array:
    """Return texts without what a reader overlooks: case, Unicode form (NFKC), spaces at the ends."""
    plain = pc.utf8_lower(pc.utf8_trim_whitespace(pc.utf8_normalize(texts, "NFKC")))
    foreign = pc.invert(pc.string_is_ascii(texts))
    folded = [
        normalize("NFKC", normalize("NFKC", text).casefold()).strip() for text in texts.filter(foreign).to_pylist()
    ]
    return pc.replace_with_mask(plain, foreign, pa.array(folded, pa.string()))
