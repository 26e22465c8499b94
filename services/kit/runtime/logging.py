"""Structured logs on stderr: readable in a terminal, JSON for machines."""

import logging
import sys
import threading
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

from services.kit.runtime.redaction import described, location_of, redact, redacted
from services.kit.runtime.settings import Settings

# Off in tests that change where logs go.
CACHES_LOGGERS = True

Event = MutableMapping[str, Any]


def errors_in_one_line(logger: Any, _: str, event: Event) -> Event:
    """Replaces an exception by its reason, file and line; its traceback, for developers, is logged at debug only."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if error is not None:
        event.setdefault("error", described(error))
        if location := location_of(error):
            event["at"] = location
        if logging.getLogger().isEnabledFor(logging.DEBUG):
            event["traceback"] = "".join(traceback.format_exception(error))
    return event


def without_secrets(logger: Any, _: str, event: Event) -> Event:
    """Replaces keys and passwords in every value by ***."""
    return {name: redacted(value) for name, value in event.items()} if event else event


SHARED_PROCESSORS: Final[list[Any]] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    errors_in_one_line,
]


def configure(settings: Settings, service: str) -> None:
    """Sends structlog's and the standard library's records to stderr in one form, each with `service`.

    An operator sees no traceback and no secret: an error is one line, from wherever it comes.
    """
    renderer: Any
    if settings.log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[*SHARED_PROCESSORS, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=CACHES_LOGGERS,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED_PROCESSORS,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, without_secrets, renderer],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # At info each request and connection of these libraries would be a line.
    for chatty in ("httpcore", "asyncio", "picows"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("grpc._cython.cygrpc").addFilter(_is_of_use)
    structlog.contextvars.bind_contextvars(service=service)
    sys.excepthook = _uncaught
    threading.excepthook = lambda hooked: _uncaught(hooked.exc_type, hooked.exc_value, hooked.exc_traceback)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger: `log = get_logger(__name__)`; `log.info("batch admitted", rows=17)`."""
    return structlog.stdlib.get_logger(name)


def _is_of_use(record: logging.LogRecord) -> bool:
    """False for what gRPC says of its own texts where it cannot open a socket, which is logged by who wanted it."""
    return not record.getMessage().startswith("Invalid encoding")


def _uncaught(kind: type[BaseException], error: BaseException | None, _: TracebackType | None) -> None:
    """Logs an exception that nothing caught, in a thread or in the main program."""
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.stderr.write(f"{redact(kind.__name__)}\n")
    else:
        logging.getLogger(__name__).critical("uncaught", exc_info=error)
