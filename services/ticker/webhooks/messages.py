"""The messages to webhooks: their bodies, in three shapes, and their signatures (standardwebhooks.com)."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import msgspec
from tradeul.v1 import alerts_pb2, webhooks_pb2

from services.kit.lists.alert_json import alert_json
from services.kit.rpc.ring import Position
from services.kit.runtime.clock import new_york_time

Shape = webhooks_pb2.Webhook.Shape
JSON: Final = webhooks_pb2.Webhook.JSON
DISCORD: Final = webhooks_pb2.Webhook.DISCORD
SLACK: Final = webhooks_pb2.Webhook.SLACK
SECRET_PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
# Discord takes 10 embeds in a message. Neither it nor Slack takes one a second for long, and alerts may be more.
MOST_IN_CHAT: Final = 10
# Discord's limits of a title, and far below its and Slack's of a text.
LONGEST_TITLE: Final = 256
LONGEST_TEXT: Final = 1000
_UP, _DOWN, _EVEN = 0x2E7D32, 0xC62828, 0x616161


class Missed(NamedTuple):
    """Alerts of any rule after one position and up to another that are neither held nor stored any more."""

    after: Position
    up_to: Position
    alerts: int


Content = Sequence[alerts_pb2.Alert] | Missed


def new_secret() -> bytes:
    """A key for signatures."""
    return secrets.token_bytes(SECRET_BYTES)


def secret_text(secret: bytes) -> str:
    """A key as receivers get it."""
    return SECRET_PREFIX + base64.b64encode(secret).decode()


def headers(message_id: str, timestamp: int, body: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """The headers of a message sent at a Unix time, with a signature by each of the keys."""
    content = f"{message_id}.{timestamp}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def message_id(webhook_id: str, position: Position) -> str:
    """The id of the message whose last alert has this position: the same however often it is sent."""
    return f"msg_{webhook_id.removeprefix('wh_')}_{position.epoch}_{position.sequence}"


def id_of_test(webhook_id: str) -> str:
    """An id of its own for each test."""
    return f"msg_{webhook_id.removeprefix('wh_')}_test_{secrets.token_hex(8)}"


def most_alerts(shape: int) -> int:
    """How many alerts a message has at most."""
    return 1 if shape == JSON else MOST_IN_CHAT


def body(shape: int, content: Content, now: datetime) -> bytes:
    """The body of a message with these alerts, or one that says which are missed."""
    if isinstance(content, Missed):
        text = f"{content.alerts} alerts after {content.after} and up to {content.up_to} were missed"
        data = {"after": _position(content.after), "up_to": _position(content.up_to), "count": content.alerts}
        return _notice(shape, "alerts_missed", text, data, now)
    if shape == JSON:
        (alert,) = content
        time = alert.time.ToJsonString()
        data_json = alert_json(alert.SerializeToString())
        return b'{"type":"alert","timestamp":%b,"data":%b}' % (msgspec.json.encode(time), data_json)
    made: dict[str, Any] = {}
    if shape == DISCORD:
        made = {"embeds": [_embed(alert) for alert in content]}
    else:
        sections = [{"type": "section", "text": {"type": "mrkdwn", "text": _mrkdwn(alert)}} for alert in content]
        summary = ", ".join(f"{alert.symbol} {_title(alert)}" for alert in content)
        made = {"text": _escaped(summary[:LONGEST_TEXT]), "blocks": sections}
    return _chat(shape, made)


def body_of_test(shape: int, webhook_id: str, now: datetime) -> bytes:
    """The body of a test."""
    return _notice(shape, "test", "A test of this webhook: it works", {"webhook": webhook_id}, now)


def _notice(shape: int, kind: str, text: str, data: dict[str, Any], now: datetime) -> bytes:
    if shape == JSON:
        return msgspec.json.encode({"type": kind, "timestamp": now, "data": data})
    return _chat(shape, {"content": text} if shape == DISCORD else {"text": text})


def _chat(shape: int, made: dict[str, Any]) -> bytes:
    if shape == DISCORD:
        # A rule's text cannot call people.
        made = {"username": "Tradeul", "allowed_mentions": {"parse": []}, **made}
    return msgspec.json.encode(made)


def _embed(alert: alerts_pb2.Alert) -> dict[str, Any]:
    change = alert.row.change_percent if alert.row.HasField("change_percent") else 0.0
    return {
        "title": f"{alert.symbol}: {_title(alert)}"[:LONGEST_TITLE],
        "description": _details(alert),
        "color": _UP if change > 0 else _DOWN if change < 0 else _EVEN,
        "timestamp": alert.time.ToJsonString(),
        "footer": {"text": f"{alert.rule} · {alert.epoch}/{alert.sequence}"},
    }


def _mrkdwn(alert: alerts_pb2.Alert) -> str:
    time = f"{new_york_time(alert.time.ToNanoseconds()):%H:%M:%S}"
    return f"*{_escaped(alert.symbol)}* {_escaped(_title(alert))}\n{_escaped(_details(alert))} · {time}"


def _title(alert: alerts_pb2.Alert) -> str:
    return (alert.text or alert.rule)[:LONGEST_TEXT]


def _details(alert: alerts_pb2.Alert) -> str:
    """The row's most important numbers: `12.41 · +3.2 % · rvol 4.1 · volume 1,200,000`."""
    row, parts = alert.row, []
    if row.HasField("price"):
        parts.append(f"{row.price:,.4f}".rstrip("0").rstrip("."))
    if row.HasField("change_percent"):
        parts.append(f"{row.change_percent:+.1f} %")
    if row.HasField("rvol"):
        parts.append(f"rvol {row.rvol:.1f}")
    if row.HasField("volume_today"):
        parts.append(f"volume {row.volume_today:,.0f}")
    return " · ".join(parts) or alert.rule


def _escaped(text: str) -> str:
    """As Slack's texts need it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _position(position: Position) -> dict[str, int]:
    return {"epoch": position.epoch, "sequence": position.sequence}
