# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Lists in chunks; see chains.pxd."""

from libc.stdint cimport UINT32_MAX, int32_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from fastcore.memory cimport aligned_block
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer


cdef void init_pool(ChunkPool* pool) noexcept nogil:
    pool.blocks = NULL
    pool.links = NULL
    pool.room = pool.free = 0
    pool.fresh = 1


cdef void free_pool(ChunkPool* pool) noexcept nogil:
    cdef uint32_t i
    for i in range(pool.room >> BLOCK_BITS):
        free(pool.blocks[i])
        free(pool.links[i])
    free(pool.blocks)
    free(pool.links)
    init_pool(pool)


cdef int add_block(ChunkPool* pool) except -1 nogil:
    cdef size_t count = (pool.room >> BLOCK_BITS) + 1
    cdef void* blocks = NULL
    cdef void* links = NULL
    cdef void* block = NULL
    if count << BLOCK_BITS <= <size_t>UINT32_MAX:
        blocks = realloc(pool.blocks, count * sizeof(char*))
        if blocks != NULL:
            pool.blocks = <char**>blocks
            links = realloc(pool.links, count * sizeof(ChunkLinks*))
        if links != NULL:
            pool.links = <ChunkLinks**>links
            pool.links[count - 1] = <ChunkLinks*>malloc(sizeof(ChunkLinks) << BLOCK_BITS)
            if pool.links[count - 1] != NULL:
                block = aligned_block(<size_t>CHUNK << BLOCK_BITS)
                if block == NULL:
                    free(pool.links[count - 1])
    if block == NULL:
        with gil:
            raise MemoryError(f"no memory for block {count} of a market's lists")
    pool.blocks[count - 1] = <char*>block
    pool.room = <uint32_t>(count << BLOCK_BITS)
    return 0


cdef uint32_t take_chunk(ChunkPool* pool) except 0 nogil:
    cdef uint32_t chunk = pool.free
    if chunk:
        pool.free = links_of(pool, chunk).after
        return chunk
    while pool.fresh >= pool.room:
        add_block(pool)
    chunk = pool.fresh
    pool.fresh += 1
    return chunk


cdef void init_chain(Chain* chain) noexcept nogil:
    chain.newest = NULL
    chain.first = chain.last = 0
    chain.count = chain.head = 0


cdef void free_chain(ChunkPool* pool, Chain* chain) noexcept nogil:
    if chain.first:
        links_of(pool, chain.last).after = pool.free
        pool.free = chain.first
    init_chain(chain)


cdef char* append_chunk(ChunkPool* pool, Chain* chain) except NULL nogil:
    cdef Place place
    place.chunk = take_chunk(pool)
    place.i = 0
    links_of(pool, place.chunk).before = chain.last
    links_of(pool, place.chunk).after = 0
    if chain.last:
        links_of(pool, chain.last).after = place.chunk
    else:
        chain.first = place.chunk
    chain.last = place.chunk
    chain.count += 1
    chain.newest = element(pool, 0, place)
    return chain.newest


cdef char* insert_after(ChunkPool* pool, Chain* chain, int width, Place place) except NULL nogil:
    cdef char* to = append(pool, chain, width)
    cdef char* source
    cdef Place at = place_before(pool, width, last_place(chain, width))
    while at.chunk != place.chunk or at.i != place.i:
        source = element(pool, width, at)
        memcpy(to, source, width)
        to = source
        at = place_before(pool, width, at)
    return to


cdef void drop_first(ChunkPool* pool, Chain* chain, int width) noexcept nogil:
    cdef uint32_t chunk = chain.first
    if chain.count == 1:
        free_chain(pool, chain)
        return
    chain.count -= 1
    chain.head += 1
    if chain.head == <int>(CHUNK // width):
        chain.head = 0
        chain.first = links_of(pool, chunk).after
        links_of(pool, chain.first).before = 0
        links_of(pool, chunk).after = pool.free
        pool.free = chunk


# ---- as bytes ----

cdef int write_chain(Writer* writer, const ChunkPool* pool, const Chain* chain, int width) except -1:
    cdef Place place = first_place(chain)
    cdef int32_t left = chain.count, run
    while left:
        run = min(left, <int>(CHUNK // width) - place.i)
        write_block(writer, element(pool, width, place), run * width)
        left -= run
        place.chunk = links_of(pool, place.chunk).after
        place.i = 0
    return 0


cdef int read_chain(Cursor* cursor, ChunkPool* pool, Chain* chain, int width, int32_t count) except -1:
    cdef int32_t i
    for i in range(count):
        read_block(cursor, append(pool, chain, width), width)
    return 0
