"""An alert as JSON, made of the scanner's encoded message."""

from tradeul.v1 import alerts_pb2

from services.kit.lists.list_json import message_json, unranked_rows_json


def alert_json(encoded: bytes) -> bytes:
    """An encoded Alert as one JSON object, as in REST; its row's numbers are numbers, as in lists."""
    alert = alerts_pb2.Alert.FromString(encoded)
    row = unranked_rows_json([alert.row.SerializeToString()])[1:-1]
    alert.ClearField("row")
    return b'%b,"row":%b}' % (message_json(alert)[:-1], row)
