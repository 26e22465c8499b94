"""Texts of companies as they are kept and shown: names, industries, exchanges."""

import re
import unicodedata
from typing import Final

LONGEST: Final = 200
# Controls, and all kinds of spaces and line ends: what parts words.
_BLANKS: Final = frozenset({"Cc", "Zs", "Zl", "Zp"})
# Marks of direction, soft hyphens, halves of surrogates, what no letter is given to: what nobody sees.
_UNSEEN: Final = frozenset({"Cf", "Cs", "Co", "Cn"})
_PLAIN: Final = re.compile(r"[!-~]+(?: [!-~]+)*")


def plain_text(value: object) -> str | None:
    """`value` in one spelling: NFC, words parted by single spaces, nothing unseen, 200 characters at most.

    None when nothing is left, or when it is no text. Whoever stores or shows a company's text
    takes it through here, so that a filter finds what an answer shows.
    """
    if not isinstance(value, str):
        return None
    if _PLAIN.fullmatch(value) is None:
        kinds = ((each, unicodedata.category(each)) for each in value)
        seen = "".join(" " if kind in _BLANKS else each for each, kind in kinds if kind not in _UNSEEN)
        value = unicodedata.normalize("NFC", " ".join(seen.split()))
    return value[:LONGEST].strip() or None
