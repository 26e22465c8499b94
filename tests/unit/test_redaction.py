"""What an operator reads: never empty, in one line, no secret, no traceback."""

import asyncio
import io
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator

import asyncpg
import pytest
import structlog

from services.kit.runtime import redaction
from services.kit.runtime.errors import STORE_UNAVAILABLE
from services.kit.runtime.logging import configure, get_logger
from services.kit.runtime.redaction import described, reason_of, redact
from services.kit.runtime.settings import Settings

PASSWORD = "hunter2%21x"
KEY = "k3y-of-the-vendor"
URL = f"postgresql://me:{PASSWORD}@db.example.com:5432/tradeul"
ENVIRONMENT = {"POLYGON_API_KEY": KEY, "TRADEUL_DATABASE_URL": URL, "FMP_API_KEY": "second-key"}
SECRETS = (PASSWORD, "hunter2!x", KEY, "second-key")


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(redaction, "_secrets", {})
    return Settings.load(ENVIRONMENT)


@pytest.mark.parametrize(
    "text",
    [
        f"cannot connect to {URL}",
        f"connection to 'hunter2!x' failed, key {KEY}.",
        f"GET https://api.polygon.io/v3?apiKey={KEY}&x=1",
        "POST /profile?apikey=second-key",
    ],
)
def test_what_the_settings_keep_secret_is_never_shown(settings: Settings, text: str) -> None:
    shown = redact(text)
    assert not any(secret in shown for secret in SECRETS)
    assert "***" in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:pa55@host:1/0 refused", "redis://***@host:1/0 refused"),
        ("https://host/path?api_key=abc&limit=5", "https://host/path?api_key=***&limit=5"),
        ("host=db password='a b' user=me", "host=db password=*** user=me"),
        ("Authorization: Bearer abc.def", "Authorization: ***"),
        ("postgresql://me@host/db", "postgresql://me@host/db"),
        ("AAPL: expected 0 < low, was 3 at 10:30", "AAPL: expected 0 < low, was 3 at 10:30"),
    ],
)
def test_what_looks_like_a_secret_is_not_shown_either(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "TimeoutError"),
        (asyncio.CancelledError(), "CancelledError"),
        (asyncpg.ConnectionDoesNotExistError(""), "ConnectionDoesNotExistError"),
        (ValueError("first\n  second\n"), "first second"),
        (ExceptionGroup("several", [OSError(), ValueError("x")]), "OSError"),
    ],
)
def test_a_reason_is_never_empty_and_one_line(error: BaseException, reason: str) -> None:
    assert reason_of(error) == reason
    assert described(error).startswith(type(error).__name__ if not isinstance(error, ExceptionGroup) else "OSError")


def test_answers_hold_no_secret(settings: Settings) -> None:
    error = STORE_UNAVAILABLE.error(f"no answer of {URL}", url=URL)
    assert PASSWORD not in error.message and PASSWORD not in error.metadata["url"]


@pytest.fixture
def logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[io.StringIO]:
    """What is logged in the form that the test asks for."""
    stream = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr("services.kit.runtime.logging.CACHES_LOGGERS", False)
    configure(settings.model_copy(update={"log_format": request.param}), "test")
    yield stream
    root.handlers[:], sys.excepthook, threading.excepthook = handlers, *hooks
    root.setLevel(level)
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()


def fails(secret: str) -> None:
    raise RuntimeError(f"cannot open {secret}\nat all")


@pytest.mark.parametrize("logged", ["console", "json"], indirect=True)
def test_an_error_in_the_log_is_one_line_without_a_secret(logged: io.StringIO) -> None:
    log = get_logger("somewhere")
    try:
        fails(URL)
    except RuntimeError as error:
        log.exception("a defect")
        log.warning("given", error=error, places=[URL, {"url": URL}])
        logging.getLogger("asyncio").error("Task exception was never retrieved", exc_info=error)
        logging.getLogger("library").warning("of %s", URL)
        sys.excepthook(type(error), error, error.__traceback__)
    thread = threading.Thread(target=fails, args=(URL,))
    thread.start()
    thread.join()
    text = logged.getvalue()
    assert not any(secret in text for secret in SECRETS)
    assert "Traceback" not in text
    lines = text.splitlines()
    assert len(lines) == 6, text
    assert sum("cannot open postgresql://***@db.example.com:5432/tradeul at all" in line for line in lines) == 5
    assert sum("tests/unit/test_redaction.py:" in line for line in lines) == 4
    if lines[0].startswith("{"):
        # A thread that is not ours does not know the service.
        assert all(json.loads(line)["service"] == "test" for line in lines[:-1])


def test_a_process_that_is_handed_its_settings_hides_their_secrets() -> None:
    """A worker gets them as JSON on a pipe, from a parent that has read the environment."""
    settings = Settings.load(
        {"POLYGON_API_KEY": "handed-over-key", "TRADEUL_DATABASE_URL": "postgresql://me:pass-of-db@db/t"}
    )
    program = (
        "import sys\n"
        "from services.kit.runtime.redaction import redact\n"
        "from services.kit.runtime.settings import Settings\n"
        "Settings.model_validate_json(sys.stdin.read()); print(redact('x handed-over-key pass-of-db y'))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], input=settings.model_dump_json(), capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "x *** *** y"
