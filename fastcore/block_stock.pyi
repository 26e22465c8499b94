from typing import NoReturn

def count_blocks() -> tuple[int, int]:
    """How many blocks are in stock, and how many have been taken so far."""

def prepare_blocks() -> NoReturn:
    """Prepares blocks for whoever takes one, and waits while there are enough: to be run by a thread of its own.

    The other threads go on meanwhile. Never returns; raises MemoryError when there is no more memory.
    """
