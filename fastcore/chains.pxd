# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Lists that grow at their end and shrink at their front, in chunks that one pool hands out.
#
# A market keeps a few for each symbol. A list that grows copies nothing, what one lets go of
# any other can use, and as all chunks lie in huge pages, the processor need not look up where
# a page is for each of some ten thousand lists that are visited in no order. A list begins with
# a small chunk, which is all that most need; larger ones follow, which are faster to go through.

from libc.stdint cimport int16_t, int32_t, uint32_t

from fastcore.wire cimport Cursor, Writer

cdef extern from *:
    """
    /* A build with sanitizers has each chunk for itself: what is read or written too far is then beyond what was
       allocated, and found. */
    #ifndef TRADEUL_CHUNK_BLOCK
    #define TRADEUL_CHUNK_BLOCK 21
    #endif
    """
    # Two to this power of bytes of chunks are one block, a huge page, as block_stock.pxd has them. Less than a chunk:
    # each is a block.
    enum: BLOCK_BITS "TRADEUL_CHUNK_BLOCK"

cdef enum:
    SIZES = 3
    # Chunks of each size have two to this power of bytes.
    FIRST_BITS = 8              # the first of any list
    NARROW_BITS = 10            # others, of elements narrower than a line of the cache
    WIDE_BITS = 11              # others
    WIDE = 64

# A chunk's number is four times its place among those of its size, and 0, 1 or 2 for the size; 0 is none.
cdef struct ChunkLinks:
    uint32_t before             # the chunks before and after it in its list
    uint32_t after

# All chunks of one size.
cdef struct Slab:
    char** blocks
    ChunkLinks** links          # [block][chunk in it]
    uint32_t room               # places below this have memory
    uint32_t fresh              # places from here on have never been used
    uint32_t free               # the first of the chunks that can be used again, linked by `after`

cdef struct ChunkPool:
    Slab[SIZES] slabs

# Elements of one width, which each function is told.
cdef struct Chain:
    char* newest                # the last element; NULL without one
    uint32_t first              # chunk
    uint32_t last
    int32_t count
    int16_t head                # the place of the first element in its chunk
    int16_t room                # places after the last element in its chunk

# Where an element is, or where one would be before the first or after the last.
cdef struct Place:
    uint32_t chunk
    int32_t i


cdef void init_pool(ChunkPool* pool) noexcept nogil
# All memory of it; no list may be in use.
cdef void free_pool(ChunkPool* pool) noexcept nogil
# Bytes of all chunks that have been in use at once.
cdef size_t pool_bytes(const ChunkPool* pool) noexcept nogil

# A list must be empty or freed before it is forgotten.
cdef void init_chain(Chain* chain) noexcept nogil
cdef void free_chain(ChunkPool* pool, Chain* chain) noexcept nogil
# The first element of one more chunk.
cdef char* append_chunk(ChunkPool* pool, Chain* chain, int width) except NULL nogil
# One more element after `place`, before others; its content is arbitrary.
cdef char* insert_after(ChunkPool* pool, Chain* chain, int width, Place place) except NULL nogil
cdef void drop_first(ChunkPool* pool, Chain* chain, int width) noexcept nogil
# Asks for the lines of a chunk that is read soon; 0 is none.
cdef void fetch_chunk(const ChunkPool* pool, uint32_t chunk) noexcept nogil

cdef int write_chain(Writer* writer, const ChunkPool* pool, const Chain* chain, int width) except -1
# `count` elements, whatever they are, for an empty list; ValueError when the bytes end before.
cdef int read_chain(Cursor* cursor, ChunkPool* pool, Chain* chain, int width, int32_t count) except -1


cdef inline uint32_t size_of(uint32_t chunk) noexcept nogil:
    return chunk & 3


cdef inline uint32_t chunk_bits(uint32_t size) noexcept nogil:
    """Of its bytes."""
    return FIRST_BITS if size == 0 else NARROW_BITS if size == 1 else WIDE_BITS


cdef inline uint32_t block_bits(uint32_t size) noexcept nogil:
    """Of the number of chunks in a block."""
    return BLOCK_BITS - chunk_bits(size) if BLOCK_BITS > WIDE_BITS else 0


cdef inline uint32_t block_of(uint32_t chunk) noexcept nogil:
    return chunk >> 2 >> block_bits(size_of(chunk))


cdef inline uint32_t place_in_block(uint32_t chunk) noexcept nogil:
    return chunk >> 2 & ((<uint32_t>1 << block_bits(size_of(chunk))) - 1)


cdef inline ChunkLinks* links_of(const ChunkPool* pool, uint32_t chunk) noexcept nogil:
    return &pool.slabs[size_of(chunk)].links[block_of(chunk)][place_in_block(chunk)]


cdef inline char* bytes_of(const ChunkPool* pool, uint32_t chunk) noexcept nogil:
    cdef char* block = pool.slabs[size_of(chunk)].blocks[block_of(chunk)]
    return block + (<size_t>place_in_block(chunk) << chunk_bits(size_of(chunk)))


cdef inline int32_t places_in(uint32_t chunk, int width) noexcept nogil:
    # Written so that nothing is divided by a width that the compiler knows.
    if size_of(chunk) == 0:
        return <int32_t>((1 << FIRST_BITS) // width)
    return <int32_t>((1 << WIDE_BITS) // width) if width >= WIDE else <int32_t>((1 << NARROW_BITS) // width)


cdef inline char* element(const ChunkPool* pool, int width, Place place) noexcept nogil:
    return bytes_of(pool, place.chunk) + place.i * width


cdef inline Place first_place(const Chain* chain) noexcept nogil:
    cdef Place place
    place.chunk = chain.first
    place.i = chain.head
    return place


cdef inline Place last_place(const Chain* chain, int width) noexcept nogil:
    cdef Place place
    place.chunk = chain.last
    place.i = places_in(chain.last, width) - 1 - chain.room
    return place


cdef inline Place place_after(const ChunkPool* pool, int width, Place place) noexcept nogil:
    place.i += 1
    if place.i == places_in(place.chunk, width):
        place.i = 0
        place.chunk = links_of(pool, place.chunk).after
    return place


cdef inline Place place_before(const ChunkPool* pool, int width, Place place) noexcept nogil:
    place.i -= 1
    if place.i < 0:
        place.chunk = links_of(pool, place.chunk).before
        place.i = places_in(place.chunk, width) - 1
    return place


cdef inline char* append(ChunkPool* pool, Chain* chain, int width) except NULL nogil:
    """One more element at the end; its content is arbitrary."""
    if chain.room == 0:
        return append_chunk(pool, chain, width)
    chain.room -= 1
    chain.count += 1
    chain.newest += width
    return chain.newest
