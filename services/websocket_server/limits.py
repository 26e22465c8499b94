"""What one client, and all of them together, may cost."""

from typing import NamedTuple


class Limits(NamedTuple):
    """Bytes, seconds and counts; tests shorten them."""

    # One message of a client's; what there is to say takes about 100 bytes.
    message_bytes: int = 4096
    # Messages in a row, and per second in the long run.
    message_burst: int = 100
    messages_per_second: float = 20.0
    # Messages beyond that are answered with an error once and not read; so many more end the connection.
    excess_messages: int = 100
    clients: int = 10_000
    handshake_seconds: float = 5.0
    # Above so many unsent bytes a client gets nothing more until they are down to a quarter.
    unsent_bytes: int = 512 * 1024
    # What the kernel may hold unsent on top: more of it would only grow old there.
    kernel_unsent_bytes: int = 128 * 1024
    # A client with a full buffer that takes nothing for so long is closed.
    stall_seconds: float = 10.0
    # A quiet client is asked for a sign of life, and closed when none comes.
    ping_after_seconds: float = 20.0
    pong_within_seconds: float = 20.0
    # How long a closing handshake may take.
    close_seconds: float = 5.0
    # A list that nobody watches any more is followed on for so long.
    linger_seconds: float = 60.0
    # A client that comes from a replica that was ahead waits so long for this one.
    ahead_seconds: float = 2.0
    # Changes of a list that come closer together than this go out in one write.
    flush_seconds: float = 0.02
    # A symbol's aggregates come at most so often.
    aggregate_seconds: float = 1.0
    # Changes held per list for those who come back.
    held_changes: int = 2048
    held_bytes: int = 4 * 1024 * 1024
