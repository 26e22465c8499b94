"""The list behind a subscription: a built-in one or a custom scan, with all fields of its rows or some."""

from typing import NamedTuple

from tradeul.v1 import scanner_pb2

from services.kit.lists.field_selection import FieldSelection
from services.kit.rpc.key_streams import RequestKey
from services.kit.rpc.ring import Position

# The name of custom scans in the scanner's messages, metrics and the log.
SCAN = "scan"


class ScanText(NamedTuple):
    """A custom scan as clients define it; the scanner checks it. `limit` is the scanner's default if it is None."""

    filter: str
    order_by: str
    limit: int | None


class Source(NamedTuple):
    """Subscriptions with equal sources get the same bytes. `selection` is None for all fields; with
    `changed_fields_only`, updates have no more than these.

    `key`: whose scan it is, so that the scanner counts it among those that the key has there; None for lists.
    """

    list_name: str
    scan: ScanText | None = None
    selection: FieldSelection | None = None
    key: RequestKey | None = None
    changed_fields_only: bool = False

    def of_key(self, key: RequestKey | None) -> "Source":
        """The source as a client with this key subscribes to it; None for a client without one."""
        return self if self.scan is None or key is None else self._replace(key=key.forwarded)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata of its requests to the scanner."""
        return self.key.metadata if self.key is not None else ()

    @property
    def is_plain(self) -> bool:
        """True for a built-in list with all fields, of which there are no more than lists."""
        return self.scan is None and self.selection is None

    def open_request(self, position: Position | None) -> scanner_pb2.SubscribeListRequest:
        """The first request of SubscribeList, after `position` where that is a position of the list."""
        if self.scan is not None:
            # A scan cannot be resumed.
            scan = scanner_pb2.WatchScanRequest(
                filter=self.scan.filter,
                order_by=self.scan.order_by,
                limit=self.scan.limit,
                changed_fields_only=self.changed_fields_only,
            )
            return scanner_pb2.SubscribeListRequest(open_scan=scan)
        request = scanner_pb2.WatchListRequest(list=self.list_name, changed_fields_only=self.changed_fields_only)
        if position is not None:
            request.epoch, request.sequence = position
        return scanner_pb2.SubscribeListRequest(open=request)


def source_of_scan(scan: ScanText, selection: FieldSelection | None, changed_fields_only: bool = False) -> Source:
    """The source of a custom scan; texts that differ only in the space around them are equal, as at the scanner."""
    text = ScanText(scan.filter.strip(), scan.order_by.strip(), scan.limit)
    return Source(SCAN, text, selection, changed_fields_only=changed_fields_only)
