"""An alert's JSON, put together of parts, against protobuf's own."""

import json
import random

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from tradeul.v1 import alerts_pb2
from tradeul.v1.ticker_row_pb2 import TickerRow

from services.kit.lists.alert_json import alert_json

# A row outside of lists has no rank, and one of the market no day of the stores.
LEFT_OUT = ("rank", "last_day")
VALUES = {
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -1.5, 19_571.0, 1e-6, 123_456_789.25),
    FieldDescriptor.CPPTYPE_STRING: ("ACME", 'a "quoted" é', ""),
    FieldDescriptor.CPPTYPE_BOOL: (True, False),
    FieldDescriptor.CPPTYPE_UINT32: (0, 7, (1 << 32) - 1),
    FieldDescriptor.CPPTYPE_ENUM: (1,),
}


def fill(message: Message, rng: random.Random) -> None:
    """Gives seven of ten fields a value."""
    if isinstance(message, Timestamp):
        message.FromNanoseconds(1_770_000_000_000_000_000 + rng.randrange(10**15))
        return
    for field in message.DESCRIPTOR.fields:
        if field.name in LEFT_OUT or rng.random() < 0.3:
            continue
        if field.message_type is not None:
            fill(getattr(message, field.name), rng)
        else:
            setattr(message, field.name, rng.choice(VALUES[field.cpp_type]))


@pytest.mark.parametrize("seed", range(20))
def test_it_has_the_values_that_protobuf_gives_it(seed: int) -> None:
    row = TickerRow()
    fill(row, random.Random(seed))
    row.symbol = "ACME"
    alert = alerts_pb2.Alert(
        epoch=7,
        sequence=seed,
        rule="crossed",
        symbol="ACME",
        quality=2.0,
        text='"é"',
        row=row,
    )
    alert.time.FromNanoseconds(1_770_000_000_123_456_789)
    expected = MessageToDict(alert, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    assert json.loads(alert_json(alert.SerializeToString())) == expected
