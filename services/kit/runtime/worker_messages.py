"""Messages to and from a child on pipes (workers.py), each after its length."""

import asyncio
import struct
from typing import BinaryIO, Final

_LENGTH: Final = struct.Struct("<I")
# More than a message ever has; longer is not ours.
LONGEST: Final = 64 * 1024 * 1024


def framed(message: bytes) -> bytes:
    """A message after its length, as it is sent."""
    return _LENGTH.pack(len(message)) + message


# --- in the parent


async def read_message(process: asyncio.subprocess.Process) -> bytes:
    """The next message of its output; raises IncompleteReadError when there is none, and OSError for what is none."""
    assert process.stdout is not None, "it is a pipe"
    (size,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    if size > LONGEST:
        raise OSError(f"expected a message of at most {LONGEST} bytes, was {size}")
    return await process.stdout.readexactly(size)


# --- in the child


def read_input(source: BinaryIO) -> bytes | None:
    """The next message of the input; None at its end."""
    head = source.read(_LENGTH.size)
    return source.read(_LENGTH.unpack(head)[0]) if len(head) == _LENGTH.size else None


def write_message(output: BinaryIO, message: bytes) -> None:
    """Writes a message to the parent at once, or waits while it does not read; BrokenPipeError when it is gone."""
    output.write(framed(message))
    output.flush()
