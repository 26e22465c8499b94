"""The one catalogue of errors: what each is called, its gRPC code, and whether trying again can help.

A `ServiceError` raised anywhere below a servicer reaches the client as a
google.rpc.Status with one ErrorInfo {reason, domain "tradeul", metadata}; see
`services.kit.rpc.server`. This module imports no grpc, so that pure code may raise.
"""

from typing import Final, NamedTuple

from services.kit.runtime.redaction import redact

DOMAIN: Final = "tradeul"


class Reason(NamedTuple):
    """One kind of error. `code` is the name of a google.rpc.Code."""

    name: str
    code: str
    retryable: bool

    def error(self, message: str, **metadata: object) -> "ServiceError":
        """The error to raise: `raise UNKNOWN_LIST.error("no list 'x'", list="x")`."""
        return ServiceError(self, message, {key: str(value) for key, value in metadata.items()})


class ServiceError(Exception):
    """An error with a reason of the catalogue, for the sender of the request."""

    def __init__(self, reason: Reason, message: str, metadata: dict[str, str] | None = None) -> None:
        message = redact(message)
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.metadata = {name: redact(value) for name, value in (metadata or {}).items()}


class SettingsError(Exception):
    """Wrong settings; the message names every one of them."""


class StartError(Exception):
    """Something needed at startup is missing; the message says what to do."""


# The sender's mistakes: the same request fails again.
INVALID_REQUEST: Final = Reason("INVALID_REQUEST", "INVALID_ARGUMENT", False)
INVALID_LIMIT: Final = Reason("INVALID_LIMIT", "INVALID_ARGUMENT", False)
INVALID_FILTER: Final = Reason("INVALID_FILTER", "INVALID_ARGUMENT", False)
INVALID_ALERT_RULE: Final = Reason("INVALID_ALERT_RULE", "INVALID_ARGUMENT", False)
INVALID_ORDER: Final = Reason("INVALID_ORDER", "INVALID_ARGUMENT", False)
INVALID_FIELDS: Final = Reason("INVALID_FIELDS", "INVALID_ARGUMENT", False)
INVALID_SYMBOL: Final = Reason("INVALID_SYMBOL", "INVALID_ARGUMENT", False)
INVALID_DATE: Final = Reason("INVALID_DATE", "INVALID_ARGUMENT", False)
INVALID_TIME: Final = Reason("INVALID_TIME", "INVALID_ARGUMENT", False)
INVALID_SPEED: Final = Reason("INVALID_SPEED", "INVALID_ARGUMENT", False)
INVALID_POSITION: Final = Reason("INVALID_POSITION", "INVALID_ARGUMENT", False)
INVALID_SUBSCRIPTION: Final = Reason("INVALID_SUBSCRIPTION", "INVALID_ARGUMENT", False)
# The order of a stream's messages: open first and once, then acks.
OPEN_EXPECTED: Final = Reason("OPEN_EXPECTED", "INVALID_ARGUMENT", False)
OPEN_REPEATED: Final = Reason("OPEN_REPEATED", "INVALID_ARGUMENT", False)
UNKNOWN_LIST: Final = Reason("UNKNOWN_LIST", "NOT_FOUND", False)
UNKNOWN_ALERT_RULE: Final = Reason("UNKNOWN_ALERT_RULE", "NOT_FOUND", False)
UNKNOWN_SYMBOL: Final = Reason("UNKNOWN_SYMBOL", "NOT_FOUND", False)
UNKNOWN_FILTER: Final = Reason("UNKNOWN_FILTER", "NOT_FOUND", False)
FILTER_EXISTS: Final = Reason("FILTER_EXISTS", "ALREADY_EXISTS", False)
TOO_MANY_FILTERS: Final = Reason("TOO_MANY_FILTERS", "FAILED_PRECONDITION", False)
ALERT_RULE_EXISTS: Final = Reason("ALERT_RULE_EXISTS", "ALREADY_EXISTS", False)
ALERT_RULE_SHIPPED: Final = Reason("ALERT_RULE_SHIPPED", "PERMISSION_DENIED", False)
ALERT_RULE_CHANGED: Final = Reason("ALERT_RULE_CHANGED", "ABORTED", False)
TOO_MANY_ALERT_RULES: Final = Reason("TOO_MANY_ALERT_RULES", "FAILED_PRECONDITION", False)
UNKNOWN_WEBHOOK: Final = Reason("UNKNOWN_WEBHOOK", "NOT_FOUND", False)
INVALID_WEBHOOK: Final = Reason("INVALID_WEBHOOK", "INVALID_ARGUMENT", False)
WEBHOOK_CHANGED: Final = Reason("WEBHOOK_CHANGED", "ABORTED", False)
TOO_MANY_WEBHOOKS: Final = Reason("TOO_MANY_WEBHOOKS", "FAILED_PRECONDITION", False)
UNKNOWN_TASK: Final = Reason("UNKNOWN_TASK", "NOT_FOUND", False)
UNKNOWN_RUN: Final = Reason("UNKNOWN_RUN", "NOT_FOUND", False)
RUN_ENDED: Final = Reason("RUN_ENDED", "FAILED_PRECONDITION", False)
UNKNOWN_LOAD: Final = Reason("UNKNOWN_LOAD", "NOT_FOUND", False)
LOAD_RUNNING: Final = Reason("LOAD_RUNNING", "FAILED_PRECONDITION", True)
NO_PAST_DAYS: Final = Reason("NO_PAST_DAYS", "FAILED_PRECONDITION", False)
NOT_A_TRADING_DAY: Final = Reason("NOT_A_TRADING_DAY", "NOT_FOUND", False)
DATE_OUT_OF_CALENDAR: Final = Reason("DATE_OUT_OF_CALENDAR", "OUT_OF_RANGE", False)
NO_REPLAY: Final = Reason("NO_REPLAY", "FAILED_PRECONDITION", False)
TIME_IS_OVER: Final = Reason("TIME_IS_OVER", "FAILED_PRECONDITION", False)
# The gateway's own (gateway/envoy.yaml).
UNKNOWN_ROUTE: Final = Reason("UNKNOWN_ROUTE", "NOT_FOUND", False)
METHOD_NOT_ALLOWED: Final = Reason("METHOD_NOT_ALLOWED", "UNIMPLEMENTED", False)
HTTPS_EXPECTED: Final = Reason("HTTPS_EXPECTED", "INVALID_ARGUMENT", False)
JSON_EXPECTED: Final = Reason("JSON_EXPECTED", "INVALID_ARGUMENT", False)
HOST_NOT_ALLOWED: Final = Reason("HOST_NOT_ALLOWED", "PERMISSION_DENIED", False)
ORIGIN_NOT_ALLOWED: Final = Reason("ORIGIN_NOT_ALLOWED", "PERMISSION_DENIED", False)
REQUEST_TOO_LARGE: Final = Reason("REQUEST_TOO_LARGE", "INVALID_ARGUMENT", False)
TIMED_OUT: Final = Reason("TIMED_OUT", "DEADLINE_EXCEEDED", True)
# The access service's, where keys are required: no key or token, a wrong one, one that may
# not, one that sends too much.
KEY_EXPECTED: Final = Reason("KEY_EXPECTED", "UNAUTHENTICATED", False)
INVALID_KEY: Final = Reason("INVALID_KEY", "UNAUTHENTICATED", False)
INVALID_TOKEN: Final = Reason("INVALID_TOKEN", "UNAUTHENTICATED", False)
TOKEN_KEYS_UNAVAILABLE: Final = Reason("TOKEN_KEYS_UNAVAILABLE", "UNAVAILABLE", True)
INVALID_TICKET: Final = Reason("INVALID_TICKET", "UNAUTHENTICATED", False)
INSUFFICIENT_RIGHT: Final = Reason("INSUFFICIENT_RIGHT", "PERMISSION_DENIED", False)
# A client of a service's own port whose certificate is not of the mesh.
PEER_NOT_ALLOWED: Final = Reason("PEER_NOT_ALLOWED", "PERMISSION_DENIED", False)
TOO_MANY_REQUESTS: Final = Reason("TOO_MANY_REQUESTS", "RESOURCE_EXHAUSTED", True)
# A state that can pass.
CLOCK_UNKNOWN: Final = Reason("CLOCK_UNKNOWN", "UNAVAILABLE", True)
NOT_READY: Final = Reason("NOT_READY", "UNAVAILABLE", True)
TASK_RUNNING: Final = Reason("TASK_RUNNING", "ALREADY_EXISTS", True)
SERVICES_NOT_SERVING: Final = Reason("SERVICES_NOT_SERVING", "UNAVAILABLE", True)
GOING_AWAY: Final = Reason("GOING_AWAY", "UNAVAILABLE", True)
STORE_UNAVAILABLE: Final = Reason("STORE_UNAVAILABLE", "UNAVAILABLE", True)
VENDOR_UNAVAILABLE: Final = Reason("VENDOR_UNAVAILABLE", "UNAVAILABLE", True)
TOO_MANY_LOOKUPS: Final = Reason("TOO_MANY_LOOKUPS", "RESOURCE_EXHAUSTED", True)
TOO_MANY_SCANS: Final = Reason("TOO_MANY_SCANS", "RESOURCE_EXHAUSTED", True)
SCAN_TOO_COSTLY: Final = Reason("SCAN_TOO_COSTLY", "RESOURCE_EXHAUSTED", False)
TOO_MANY_DRY_RUNS: Final = Reason("TOO_MANY_DRY_RUNS", "RESOURCE_EXHAUSTED", True)
# A process of a dry run was killed, for want of memory for example.
DRY_RUN_BROKE_OFF: Final = Reason("DRY_RUN_BROKE_OFF", "UNAVAILABLE", True)
TOO_MANY_STREAMS: Final = Reason("TOO_MANY_STREAMS", "RESOURCE_EXHAUSTED", True)
# A newer reader has replaced this one.
SUPERSEDED: Final = Reason("SUPERSEDED", "ABORTED", False)
# Batches are acknowledged by one sequencer, which is another one.
ANOTHER_CONSUMER: Final = Reason("ANOTHER_CONSUMER", "FAILED_PRECONDITION", True)
# A sequencer that stands by, or that led earlier: another one leads.
NOT_LEADING: Final = Reason("NOT_LEADING", "FAILED_PRECONDITION", True)
# A defect of ours, logged on the server with the file and line.
INTERNAL: Final = Reason("INTERNAL", "INTERNAL", False)

CATALOGUE: Final = tuple(value for value in list(globals().values()) if isinstance(value, Reason))
