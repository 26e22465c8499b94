"""How the trade-halt feed's names of securities are written by the vendor.

The markets have several conventions for what follows a root: with a space
(BRK B, BAC PRL), with a stroke (BRK/B, ABC/WS), with signs ($ and - preferred,
+ warrant, = unit, ^ right, # when issued) and with a dot and one letter (.W, .U,
.R, .V). The vendor writes BRK.B, BACpL, ABC.WS, ABC.WS.A, ABC.U, ABCr, ABCw.
"""

import re
from collections.abc import Iterator
from typing import Final

_SPLIT: Final = re.compile(r"([A-Za-z]+)([ ./$+=^#\-].*)?")
# What follows the root, without spaces and strokes, and what the vendor writes; \1 is a letter of its own.
_SUFFIXES: Final = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"\.([A-Z])", r".\1"),
        (r"(?:\$|-|\.?PR\.?)([A-Z]?)", r"p\1"),
        (r"(?:\+|\.?WS\.?)([A-Z])", r".WS.\1"),
        (r"\+|\.WS?|WS", ".WS"),
        (r"=|\.?U", ".U"),
        (r"\^|\.R|\.?RT", "r"),
        (r"\^#|\.?RTWI", "rw"),
        (r"#|\.[VZ]|\.?WI", "w"),
        (r"([A-Z])", r".\1"),
    )
)


def spellings(symbol: str) -> Iterator[str]:
    """The ways in which the vendor may write it, the likeliest first; the name as it is is one."""
    yield symbol
    parts = _SPLIT.fullmatch(symbol)
    if parts is None or not parts[2]:
        return
    root, suffix = parts[1], parts[2]
    if suffix[0] in " /":
        suffix = suffix[1:].replace("/", ".")
    seen = {symbol}
    for pattern, written in _SUFFIXES:
        if (match := pattern.fullmatch(suffix)) is not None:
            name = root + match.expand(written)
            if name not in seen:
                seen.add(name)
                yield name
