"""TRADEUL_CORS_ORIGINS: what may be written, and which pages it lets in."""

import re

import pytest

from services.kit.runtime.errors import SettingsError
from services.kit.runtime.origins import origins_pattern
from services.kit.runtime.settings import Settings


def lets_in(setting: str, origin: str) -> bool:
    pattern = origins_pattern(Settings.load({"TRADEUL_CORS_ORIGINS": setting}).cors_origins)
    # Envoy's matches are of the whole text.
    return re.fullmatch(pattern, origin) is not None


@pytest.mark.parametrize(
    ("setting", "inside", "outside"),
    [
        ("", "http://localhost:3000", "https://app.example.com"),
        ("", "https://127.0.0.1", "http://localhost.example.com:80"),
        ("https://app.example.com", "https://app.example.com", "https://app.example.com:8443"),
        ("https://App.Example.com", "https://app.example.com", "http://app.example.com"),
        ("https://*.example.com", "https://a.b.example.com", "https://example.com"),
        ("https://*.example.com", "https://app.example.com", "https://appxexample.com"),
        ("http://[::1]:*", "http://[::1]:5173", "http://[::2]:5173"),
        ("https://a.example, http://b.example:81", "http://b.example:81", "http://b.example"),
        ("*", "https://anything.example:9", ""),
    ],
)
def test_whose_pages_are_let_in(setting: str, inside: str, outside: str) -> None:
    assert lets_in(setting, inside)
    assert not lets_in(setting, outside)


@pytest.mark.parametrize(
    "wrong", ["app.example.com", "https://a.example/", "ws://a", "https://*", "https://a.*.b", "http://a:x"]
)
def test_what_is_no_origin_is_refused(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"TRADEUL_CORS_ORIGINS: expected origins"):
        Settings.load({"TRADEUL_CORS_ORIGINS": wrong})
