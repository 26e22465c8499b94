"""Errors as they are shown: never empty, in one line, and without secrets.

`reason_of(error)` is the text of an error for logs, job records and answers;
`redact(text)` replaces secrets by ***: values registered by Settings.load(), and what looks like one.
"""

import re
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

ROOT: Final = Path(__file__).resolve().parents[3]
HIDDEN: Final = "***"
# A longer reason is a dump, of which the beginning is enough.
LONGEST_REASON: Final = 500
# Shorter ones would be found in ordinary words.
SHORTEST_SECRET: Final = 4

# user:password@ of a URL, whatever the scheme.
_USER_INFO: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@]*:[^\s/?#]*@")
# A parameter of a URL, a header or a connection string whose name says that its value is one.
_PARAMETER: Final = re.compile(
    r"(?i)\b(api[_-]?key|access_?key|ticket|secret(?:_?key)?|pass(?:word|wd)?|token|authorization)(\s*[=:]\s*)"
    r"(?:bearer\s+)?('[^']*'|\"[^\"]*\"|[^\s&'\",;)}\]]+)"
)
# A key to the gateway, wherever it turns up: services/access/core.py makes them.
_GATEWAY_KEY: Final = re.compile(r"\btradeul_[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
# The secret of a webhook: services/ticker/webhooks/messages.py makes them.
_WEBHOOK_SECRET: Final = re.compile(r"\bwhsec_[A-Za-z0-9+/]{24,88}={0,2}")
_secrets: dict[str, re.Pattern[str]] = {}


def keep_secret(*values: str) -> None:
    """Replaces these values in everything that is shown from now on, as they are and percent-decoded."""
    for value in {*values, *map(unquote, values)}:
        if len(value) >= SHORTEST_SECRET and value not in _secrets:
            _secrets[value] = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)")


def redact(text: str) -> str:
    """Returns the text with *** in place of passwords and keys."""
    for pattern in _secrets.values():
        text = pattern.sub(HIDDEN, text)
    text = _WEBHOOK_SECRET.sub(HIDDEN, _GATEWAY_KEY.sub(HIDDEN, _USER_INFO.sub(rf"\1{HIDDEN}@", text)))
    return redact_parameters(text)


def redact_parameters(text: str) -> str:
    """Returns the text with *** in place of the values of parameters that are named as passwords or keys."""
    return _PARAMETER.sub(rf"\1\2{HIDDEN}", text)


def without_passwords(url: str) -> str:
    """Returns the URL with *** in place of the user's password and of parameters that are passwords or keys."""
    if password := urlsplit(url).password:
        url = url.replace(f":{password}@", f":{HIDDEN}@", 1)
    return redact_parameters(url)


def reason_of(error: BaseException) -> str:
    """Returns the error's message, redacted and in one line; its type's name when the message is empty."""
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return reason_of(error.exceptions[0])
    lines = [line.strip() for line in str(error).splitlines()]
    text = redact(" ".join(line for line in lines if line))
    if not text:
        return type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[:LONGEST_REASON]}..."


def described(error: BaseException) -> str:
    """Returns the type's name and the reason, for an unexpected error."""
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return described(error.exceptions[0])
    reason, name = reason_of(error), type(error).__name__
    return name if reason == name else f"{name}: {reason}"


def location_of(error: BaseException) -> str:
    """Returns the last line of our own code that the error passed, as file:line; empty when it passed none."""
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return location_of(error.exceptions[0])
    location = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(ROOT) and "site-packages" not in file.parts:
            location = f"{file.relative_to(ROOT)}:{line}"
    return location


def redacted(value: object) -> object:
    """Returns a value of a log event, and what it holds, with *** in place of secrets."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, BaseException):
        return described(value)
    if isinstance(value, Mapping):
        return {key: redacted(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    return value
