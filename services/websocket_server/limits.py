"""The limits of one client, and of all of them together."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bytes, seconds and counts; tests shorten them."""

    # One message of a client; a request takes about 100 bytes, a custom scan with a filter of 2,000 characters more.
    message_bytes: int = 4096
    # Messages in a row, and per second in the long run.
    message_burst: int = 100
    messages_per_second: float = 20.0
    # Messages beyond that are answered with one error and not read; so many more end the connection.
    excess_messages: int = 100
    clients: int = 10_000
    handshake_seconds: float = 5.0
    # Above so many unsent bytes a client gets nothing more until they are down to a quarter.
    unsent_bytes: int = 512 * 1024
    # What the kernel may hold unsent on top: more of it would only grow old there.
    kernel_unsent_bytes: int = 128 * 1024
    # A client with a full buffer that takes nothing for so long is closed.
    stall_seconds: float = 10.0
    # A quiet client is pinged, and closed when it does not answer.
    ping_after_seconds: float = 20.0
    pong_within_seconds: float = 20.0
    # The longest closing handshake.
    close_seconds: float = 5.0
    # A list without subscriptions is followed on for so long.
    linger_seconds: float = 60.0
    # The same of a custom scan, which costs the scanner something as long as it is open.
    scan_linger_seconds: float = 5.0
    # A client that comes from a replica that was ahead waits so long for this one, and again while it comes nearer, up
    # to so many times. What the client shows meanwhile is newer than anything that is here.
    ahead_seconds: float = 2.0
    ahead_times: int = 5
    # A client waits so long for changes from before its list was followed here.
    past_seconds: float = 5.0
    # Changes of a list that come closer together than this go out in one write.
    flush_seconds: float = 0.02
    # A symbol's aggregates come at most so often.
    aggregate_seconds: float = 1.0
    # Changes held per list for clients that resume.
    held_changes: int = 2048
    held_bytes: int = 4 * 1024 * 1024
    # The same of a custom scan, and of a list with selected fields.
    custom_held_bytes: int = 512 * 1024
    # Custom scans of one client.
    scans: int = 50
    # Different custom scans and selections of fields, of all clients together.
    custom_sources: int = 500


class MessageAllowance:
    """The messages that one client may still send: a token bucket."""

    __slots__ = ("_limits", "_tokens", "_tokens_at", "excess")

    def __init__(self, limits: Limits, now: float) -> None:
        # Messages in a row that were too many.
        self.excess = 0
        self._limits = limits
        self._tokens = float(limits.message_burst)
        self._tokens_at = now

    def take(self, weight: int, now: float) -> bool:
        """Counts a message of this weight; False if it is one too many."""
        limits = self._limits
        self._tokens = min(limits.message_burst, self._tokens + (now - self._tokens_at) * limits.messages_per_second)
        self._tokens_at = now
        if self._tokens >= limits.message_burst:
            self.excess = 0
        if self._tokens >= weight:
            self._tokens -= weight
            return True
        self.excess += 1
        return False
