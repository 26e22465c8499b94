"""Messages that a child on pipes writes, each after its length."""

import asyncio
import struct
from typing import BinaryIO, Final

_LENGTH: Final = struct.Struct("<I")
# More than a message ever has; longer is not ours.
LONGEST: Final = 64 * 1024 * 1024


async def read_message(process: asyncio.subprocess.Process) -> bytes:
    """The next message of its output; raises IncompleteReadError when there is none, and OSError for what is none."""
    assert process.stdout is not None, "it is a pipe"
    (size,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    if size > LONGEST:
        raise OSError(f"expected a message of at most {LONGEST} bytes, was {size}")
    return await process.stdout.readexactly(size)


def write_message(output: BinaryIO, message: bytes) -> None:
    """Writes a message to the parent at once, or waits while it does not read; BrokenPipeError when it is gone."""
    output.write(_LENGTH.pack(len(message)) + message)
    output.flush()
