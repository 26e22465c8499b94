# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Blocks of memory that the system has handed out before they are needed.
#
# It does so when a block is first written to. For a huge page this takes 0.1 ms where memory is at
# hand, and 25 ms and more on a virtual machine whose host has to find it first: too long for the
# thread that applies trades. Where another thread runs prepare_blocks(), there are a few in stock.

cdef enum:
    STOCK_BYTES = 2 << 20       # of a block: a huge page

# A block as of aligned_block(), now the caller's; NULL when none is in stock.
cdef char* take_block() noexcept nogil
