"""Reference values of some symbols, as columns: what a loader gives the sequencer."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from tradeul.v1 import frame_pb2

from fastcore.wire import write_fields
from services.market.levels import LEVELS
from services.market.volume_slots import SLOTS, SymbolBaseline

# Frames of 10-100 KB travel best; a symbol's baselines are 4.6 KB. Columns are smaller: what is touched is ranked and
# sent at the next watermark, and 2,000 symbols with four texts each took 10 ms of every copy's event loop.
BASELINE_SYMBOLS: Final = 24
COLUMN_SYMBOLS: Final = 250

NUMBER_FIELDS: Final[Mapping[str, int]] = {
    "prev_close": frame_pb2.PREV_CLOSE,
    "prev_volume": frame_pb2.PREV_VOLUME,
    "avg_volume_10d": frame_pb2.AVG_VOLUME_10D,
    "avg_volume_30d": frame_pb2.AVG_VOLUME_30D,
    "avg_price_30d": frame_pb2.AVG_PRICE_30D,
    "atr": frame_pb2.ATR,
    "float_shares": frame_pb2.FLOAT_SHARES,
    "shares_outstanding": frame_pb2.SHARES_OUTSTANDING,
    "market_cap": frame_pb2.MARKET_CAP,
    "beta": frame_pb2.BETA,
    "is_etf": frame_pb2.IS_ETF,
    **{name: frame_pb2.ReferenceField.Value(name.upper()) for name in LEVELS},
}
TEXT_FIELDS: Final[Mapping[str, int]] = {
    "company_name": frame_pb2.COMPANY_NAME,
    "exchange": frame_pb2.EXCHANGE,
    "sector": frame_pb2.SECTOR,
    "industry": frame_pb2.INDUSTRY,
    "security_type": frame_pb2.SECURITY_TYPE,
    "list_date": frame_pb2.LIST_DATE,
}

_VARINT, _BYTES = 0, 2


@dataclass(frozen=True, eq=False)
class Baselines:
    """Volume by time of day: of each symbol the values at the ends of the 192 slots, cumulative since 04:00.

    `days` [symbols] uint32; `avg_volume` (shares), `avg_trades` and `sd_trades`
    [symbols, 192] float64. NaN is not known.
    """

    days: NDArray[np.uint32]
    avg_volume: NDArray[np.float64]
    avg_trades: NDArray[np.float64]
    sd_trades: NDArray[np.float64]


def stack(baselines: Sequence[SymbolBaseline]) -> Baselines:
    """The columns of some symbols' baselines."""
    return Baselines(
        np.array([each.days for each in baselines], dtype=np.uint32),
        np.array([each.avg_volume for each in baselines]),
        np.array([each.avg_trades for each in baselines]),
        np.array([each.sd_trades for each in baselines]),
    )


def no_baselines(count: int) -> Baselines:
    """The columns that make the baselines of so many symbols absent."""
    nothing = np.zeros((count, SLOTS))
    return Baselines(np.zeros(count, np.uint32), nothing, nothing, nothing)


@dataclass(frozen=True, eq=False)
class ReferenceBatch:
    """Reference values of `symbols`: either columns (numbers and texts) or baselines.

    `numbers` [symbols] float64 by the row's field name, NaN is absent; `texts` by
    field name, "" is absent. A field that is not there changes nothing. A later
    batch of the same symbol and field replaces the earlier.
    """

    symbols: list[str]
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    texts: Mapping[str, list[str]] = field(default_factory=dict)
    baselines: Baselines | None = None

    def __post_init__(self) -> None:
        count = len(self.symbols)
        columns: Mapping[str, Sequence[object] | NDArray[np.float64]] = {**self.numbers, **self.texts}
        for name, values in columns.items():
            if len(values) != count:
                raise ValueError(f"{name}: expected {count} values, was {len(values)}")
        if self.baselines is not None:
            if columns:
                raise ValueError(f"expected baselines alone, was with {', '.join(columns)}")
            if self.baselines.days.shape != (count,):
                raise ValueError(f"days: expected {count} values, was {self.baselines.days.shape}")
            for name in ("avg_volume", "avg_trades", "sd_trades"):
                if (shape := getattr(self.baselines, name).shape) != (count, SLOTS):
                    raise ValueError(f"{name}: expected {(count, SLOTS)}, was {shape}")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The names of what it brings: fields, or "baseline"."""
        return ("baseline",) if self.baselines is not None else (*self.numbers, *self.texts)

    def encode(self, ids: Sequence[int] | NDArray[np.uint32]) -> bytes:
        """The encoded ReferenceColumns, or VolumeBaselines when there are baselines.

        `ids[i]` is the id of `symbols[i]` in the symbol table; raises ValueError
        for another number of ids.
        """
        if len(ids) != len(self.symbols):
            raise ValueError(f"expected {len(self.symbols)} ids, was {len(ids)}")
        fields: list[tuple[int, int, int | bytes]] = [(16, _BYTES, np.asarray(ids, dtype="<u4").tobytes())]
        if (baselines := self.baselines) is not None:
            fields.append((17, _BYTES, baselines.days.astype("<u4", copy=False).tobytes()))
            for number, values in enumerate((baselines.avg_volume, baselines.avg_trades, baselines.sd_trades), 18):
                fields.append((number, _BYTES, _doubles(values)))
            return write_fields(fields)
        for name, values in self.numbers.items():
            column = write_fields([(1, _VARINT, NUMBER_FIELDS[name]), (2, _BYTES, _doubles(values))])
            fields.append((17, _BYTES, column))
        for name, texts in self.texts.items():
            strings = [(2, _BYTES, text.encode()) for text in texts]
            fields.append((18, _BYTES, write_fields([(1, _VARINT, TEXT_FIELDS[name]), *strings])))
        return write_fields(fields)

    def select(self, rows: Sequence[int]) -> "ReferenceBatch":
        """The batch of the symbols in these rows."""
        if (baselines := self.baselines) is not None:
            columns = (baselines.days, baselines.avg_volume, baselines.avg_trades, baselines.sd_trades)
            return ReferenceBatch(
                [self.symbols[row] for row in rows],
                baselines=Baselines(*(column[list(rows)] for column in columns)),  # type: ignore[arg-type]
            )
        return ReferenceBatch(
            [self.symbols[row] for row in rows],
            {name: values[list(rows)] for name, values in self.numbers.items()},
            {name: [texts[row] for row in rows] for name, texts in self.texts.items()},
        )

    def pieces(self) -> "Iterable[ReferenceBatch]":
        """The same in batches small enough that a loop is not held up by one."""
        size = COLUMN_SYMBOLS if self.baselines is None else BASELINE_SYMBOLS
        if len(self.symbols) <= size:
            yield self
            return
        for start in range(0, len(self.symbols), size):
            yield self.select(range(start, min(start + size, len(self.symbols))))


class _Packed(msgspec.Struct, array_like=True):
    """A batch between processes: columns as raw little-endian bytes."""

    symbols: list[str]
    numbers: dict[str, bytes]
    texts: dict[str, list[str]]
    baselines: tuple[bytes, bytes, bytes, bytes] | None


def pack(batch: ReferenceBatch) -> bytes:
    """A batch as bytes for another process on this machine."""
    baselines = None
    if (slots := batch.baselines) is not None:
        days = slots.days.astype("<u4", copy=False).tobytes()
        baselines = (days, _doubles(slots.avg_volume), _doubles(slots.avg_trades), _doubles(slots.sd_trades))
    numbers = {name: _doubles(values) for name, values in batch.numbers.items()}
    return msgspec.msgpack.encode(_Packed(batch.symbols, numbers, dict(batch.texts), baselines))


def unpack(data: bytes | memoryview) -> ReferenceBatch:
    """The inverse of pack(); raises msgspec.DecodeError or ValueError for anything else."""
    packed = msgspec.msgpack.decode(data, type=_Packed)
    baselines = None
    if packed.baselines is not None:
        days, *slots = packed.baselines
        shape = (len(packed.symbols), SLOTS)
        baselines = Baselines(
            np.frombuffer(days, "<u4"),
            *(np.frombuffer(each, "<f8").reshape(shape) for each in slots),
        )
    numbers = {name: np.frombuffer(values, "<f8") for name, values in packed.numbers.items()}
    return ReferenceBatch(packed.symbols, numbers, packed.texts, baselines)


def _doubles(values: NDArray[np.float64]) -> bytes:
    return values.astype("<f8", copy=False).tobytes()
