"""A peer that is gone without a word: a pulled cable, a NAT that has forgotten, a machine that lost power."""

import ctypes
import os
import socket
import struct
from typing import Final

# Of <asm-generic/socket.h> and <linux/filter.h>: a filter of one instruction, which returns 0 for every packet.
SO_ATTACH_FILTER: Final = 26
RETURN_CONSTANT: Final = 0x06


def vanish(connection: socket.socket) -> socket.socket:
    """From now on the kernel drops whatever comes for a TCP connection: the other side is neither answered nor told.

    Closing `connection` does not tell it, either: that is up to what is returned, which closes it at last.
    """
    instruction = ctypes.create_string_buffer(struct.pack("HBBI", RETURN_CONSTANT, 0, 0, 0))
    program = struct.pack("HL", 1, ctypes.addressof(instruction))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)
    return socket.socket(fileno=os.dup(connection.fileno()))
