"""Parameters of REST requests, and the vendor's errors for invalid ones."""

import base64
import binascii
import datetime
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from services.kit.runtime.clock import NS_PER_MS
from services.simulator.calendar import new_york_ns, new_york_time

Query = Mapping[str, str]
Answer = dict[str, Any]
LAST_MS: Final = 10**14


class Refused(Exception):
    """The request is answered with `status` and the vendor's error object."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body: Answer = (
            {"status": "NOT_FOUND", "message": message} if status == 404 else {"status": "ERROR", "error": message}
        )


def bad(message: str) -> Refused:
    return Refused(400, message)


def integer(query: Query, name: str, default: int, low: int, high: int) -> int:
    """A whole number of low to high."""
    text = query.get(name)
    if text is None or text == "":
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise bad(f"'{name}': expected a number of {low} to {high}, was {text!r}")
    return int(text)


def boolean(query: Query, name: str, default: bool) -> bool:
    text = query.get(name)
    if text is None or text == "":
        return default
    if text.lower() not in ("true", "false"):
        raise bad(f"'{name}': expected true or false, was {text!r}")
    return text.lower() == "true"


def is_descending(query: Query, name: str) -> bool:
    text = query.get(name) or "asc"
    if text not in ("asc", "desc"):
        raise bad(f"'{name}': expected asc or desc, was {text!r}")
    return text == "desc"


def date(text: str, name: str) -> datetime.date:
    """YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise bad(f"'{name}': expected YYYY-MM-DD, was {text!r}") from None


def instant_ms(text: str, name: str, is_end: bool) -> int:
    """Milliseconds since 1970 UTC of a number, or of the beginning (`is_end`: the last) of a New York date."""
    if text.isdecimal():
        if int(text) >= LAST_MS:
            raise bad(f"'{name}': expected milliseconds, was {text}")
        return int(text)
    day = date(text, name)
    if not 1971 <= day.year <= 2900:
        raise bad(f"'{name}': expected a date of this age, was {text}")
    return new_york_ns(day + datetime.timedelta(1), 0) // NS_PER_MS - 1 if is_end else new_york_ns(day, 0) // NS_PER_MS


def new_york_date(ms: int) -> datetime.date:
    return new_york_time(ms * NS_PER_MS).date()


def cursor(query: Query) -> int:
    """Returns the number of results on the pages before."""
    text = query.get("cursor")
    if not text:
        return 0
    try:
        return int(base64.urlsafe_b64decode(text.encode()).decode())
    except (ValueError, binascii.Error):
        raise bad(f"'cursor': expected one of ours, was {text!r}") from None


def next_page(base: str, path: str, query: Query, offset: int) -> str:
    """The vendor's next_url: the same question with a cursor."""
    parameters = {name: value for name, value in query.items() if name not in ("cursor", "apiKey")}
    parameters["cursor"] = base64.urlsafe_b64encode(str(offset).encode()).decode()
    return f"{base}{path}?{urlencode(parameters)}"
