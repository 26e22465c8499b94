"""The notice that reference data have changed in PostgreSQL: who writes them says so, who holds them listens."""

import datetime
from typing import Final, Literal, get_args

import msgspec

CHANNEL: Final = "reference_data"

# What of the stores: daily_ohlc, ticker_atr, volume_slots, ticker_metadata.
Kind = Literal["daily", "atr", "baselines", "metadata"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class Notice(msgspec.Struct, frozen=True):
    """`kind` has changed; `date` is the newest trading day whose data are in it."""

    kind: Kind
    date: datetime.date


def encode(kind: Kind, date: datetime.date) -> str:
    """The notice as pg_notify takes it."""
    return msgspec.json.encode(Notice(kind, date)).decode()


def decode(payload: str) -> Notice:
    """Raises msgspec.MsgspecError for what is no notice."""
    return msgspec.json.decode(payload, type=Notice)
