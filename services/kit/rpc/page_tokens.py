"""Tokens of pages: where the page before ended, as text that clients send back as it is."""

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import TypeVar

from services.kit.runtime.errors import INVALID_REQUEST

Place = TypeVar("Place")


def encode_page_token(values: Sequence[str | int]) -> str:
    """Returns the token of a place that these values name."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_page_token(token: str, read: Callable[..., Place]) -> Place | None:
    """Returns the place that `read` makes of a token's values; None for the first page, which has no token.

    Raises INVALID_REQUEST for a token that encode_page_token() did not make, and for one of which `read` raises
    TypeError, ValueError or OverflowError.
    """
    if not token:
        return None
    try:
        return read(*json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))))
    except (binascii.Error, ValueError, TypeError, RecursionError, OverflowError) as error:
        raise INVALID_REQUEST.error(
            f"expected the next_page_token of an earlier answer, was {token[:50]!r}", field="page_token"
        ) from error
