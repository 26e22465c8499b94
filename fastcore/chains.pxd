# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Lists that grow at their end and shrink at their front, in chunks of one size that one pool hands out.
#
# A market keeps a few for each symbol. A list that grows copies nothing, what one lets go of
# any other can use, and as all chunks lie in huge pages, the processor need not look up where
# a page is for each of some ten thousand lists that are visited in no order.

from libc.stdint cimport int32_t, uint32_t

from fastcore.memory cimport fetch_line
from fastcore.wire cimport Cursor, Writer

cdef extern from *:
    """
    #define TRADEUL_CHUNK 256u
    /* Two to this power of chunks are one block, a huge page. */
    #ifndef TRADEUL_BLOCK_BITS
    #define TRADEUL_BLOCK_BITS 13
    #endif
    """
    enum: CHUNK "TRADEUL_CHUNK"             # bytes
    # A build with sanitizers has each chunk for itself: what is read or written too far is then beyond what was
    # allocated, and found.
    enum: BLOCK_BITS "TRADEUL_BLOCK_BITS"

cdef struct ChunkLinks:
    uint32_t before             # the chunks before and after it in its list; 0 for none
    uint32_t after

# Chunks have numbers from 1 on.
cdef struct ChunkPool:
    char** blocks
    ChunkLinks** links          # [block][chunk in it]
    uint32_t room               # chunks below this have memory
    uint32_t fresh              # chunks from here on have never been used
    uint32_t free               # the first of those that can be used again, linked by `after`; 0 for none

# Elements of one width, which each function is told.
cdef struct Chain:
    char* newest                # the last element; NULL without one
    uint32_t first              # chunk
    uint32_t last
    int32_t count
    int32_t head                # the place of the first element in its chunk

# Where an element is, or where one would be before the first or after the last.
cdef struct Place:
    uint32_t chunk
    int32_t i


cdef void init_pool(ChunkPool* pool) noexcept nogil
# All memory of it; no list may be in use.
cdef void free_pool(ChunkPool* pool) noexcept nogil

# A list must be empty or freed before it is forgotten.
cdef void init_chain(Chain* chain) noexcept nogil
cdef void free_chain(ChunkPool* pool, Chain* chain) noexcept nogil
# The first element of one more chunk.
cdef char* append_chunk(ChunkPool* pool, Chain* chain) except NULL nogil
# One more element after `place`, before others; its content is arbitrary.
cdef char* insert_after(ChunkPool* pool, Chain* chain, int width, Place place) except NULL nogil
cdef void drop_first(ChunkPool* pool, Chain* chain, int width) noexcept nogil

cdef int write_chain(Writer* writer, const ChunkPool* pool, const Chain* chain, int width) except -1
# `count` elements, whatever they are, for an empty list; ValueError when the bytes end before.
cdef int read_chain(Cursor* cursor, ChunkPool* pool, Chain* chain, int width, int32_t count) except -1


cdef inline uint32_t in_block(uint32_t chunk) noexcept nogil:
    return chunk & ((<uint32_t>1 << BLOCK_BITS) - 1)


cdef inline ChunkLinks* links_of(const ChunkPool* pool, uint32_t chunk) noexcept nogil:
    return &pool.links[chunk >> BLOCK_BITS][in_block(chunk)]


cdef inline char* element(const ChunkPool* pool, int width, Place place) noexcept nogil:
    return pool.blocks[place.chunk >> BLOCK_BITS] + <size_t>in_block(place.chunk) * CHUNK + place.i * width


cdef inline Place first_place(const Chain* chain) noexcept nogil:
    cdef Place place
    place.chunk = chain.first
    place.i = chain.head
    return place


cdef inline Place last_place(const Chain* chain, int width) noexcept nogil:
    cdef Place place
    place.chunk = chain.last
    place.i = (chain.head + chain.count - 1) % <int>(CHUNK // width)
    return place


cdef inline Place place_after(const ChunkPool* pool, int width, Place place) noexcept nogil:
    place.i += 1
    if place.i == <int>(CHUNK // width):
        place.i = 0
        place.chunk = links_of(pool, place.chunk).after
    return place


cdef inline Place place_before(const ChunkPool* pool, int width, Place place) noexcept nogil:
    place.i -= 1
    if place.i < 0:
        place.i = <int>(CHUNK // width) - 1
        place.chunk = links_of(pool, place.chunk).before
    return place


cdef inline bint is_chunk_full(const Chain* chain, int width) noexcept nogil:
    """True if the next element needs a chunk of its own, or there is none yet."""
    return (chain.head + chain.count) % <int>(CHUNK // width) == 0


cdef inline char* append(ChunkPool* pool, Chain* chain, int width) except NULL nogil:
    """One more element at the end; its content is arbitrary."""
    if is_chunk_full(chain, width):
        return append_chunk(pool, chain)
    chain.count += 1
    chain.newest += width
    return chain.newest
