"""An alert as JSON, made of the scanner's encoded message."""

import msgspec
from google.protobuf.json_format import MessageToDict
from tradeul.v1 import alerts_pb2

from services.kit.lists.list_json import unranked_rows_json


def alert_json(encoded: bytes) -> bytes:
    """An encoded Alert as one JSON object, as in REST; its row's numbers are numbers, as in lists."""
    alert = alerts_pb2.Alert.FromString(encoded)
    row = unranked_rows_json([alert.row.SerializeToString()])[1:-1]
    alert.ClearField("row")
    head = msgspec.json.encode(
        MessageToDict(alert, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    )
    return b'%b,"row":%b}' % (head[:-1], row)
