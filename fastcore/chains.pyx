# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Lists in chunks; see chains.pxd."""

from libc.stdint cimport int16_t, int32_t, uint32_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy

from fastcore.block_stock cimport STOCK_BYTES, take_block
from fastcore.memory cimport aligned_block, fetch_line
from fastcore.state_bytes cimport read_block, write_block
from fastcore.wire cimport Cursor, Writer

cdef enum:
    LINE = 64
    MOST_CHUNKS = 1 << 29       # of a size


cdef void init_pool(ChunkPool* pool) noexcept nogil:
    cdef uint32_t size
    for size in range(<uint32_t>SIZES):
        pool.slabs[size].blocks = NULL
        pool.slabs[size].links = NULL
        pool.slabs[size].room = pool.slabs[size].free = 0
        # Chunk 0 is none.
        pool.slabs[size].fresh = 1 if size == 0 else 0


cdef void free_pool(ChunkPool* pool) noexcept nogil:
    cdef uint32_t size, i
    cdef Slab* slab
    for size in range(<uint32_t>SIZES):
        slab = &pool.slabs[size]
        for i in range(slab.room >> block_bits(size)):
            free(slab.blocks[i])
            free(slab.links[i])
        free(slab.blocks)
        free(slab.links)
    init_pool(pool)


cdef size_t pool_bytes(const ChunkPool* pool) noexcept nogil:
    cdef uint32_t size
    cdef size_t total = 0
    for size in range(<uint32_t>SIZES):
        total += <size_t>(pool.slabs[size].fresh - (1 if size == 0 else 0)) << chunk_bits(size)
    return total


cdef int add_block(Slab* slab, uint32_t size) except -1 nogil:
    cdef uint32_t bits = block_bits(size)
    cdef size_t count = (slab.room >> bits) + 1
    cdef size_t block_size = <size_t>1 << bits << chunk_bits(size)
    cdef void* blocks = NULL
    cdef void* links = NULL
    cdef void* block = NULL
    if count << bits <= <size_t>MOST_CHUNKS:
        blocks = realloc(slab.blocks, count * sizeof(char*))
        if blocks != NULL:
            slab.blocks = <char**>blocks
            links = realloc(slab.links, count * sizeof(ChunkLinks*))
        if links != NULL:
            slab.links = <ChunkLinks**>links
            slab.links[count - 1] = <ChunkLinks*>malloc(sizeof(ChunkLinks) << bits)
            if slab.links[count - 1] != NULL:
                if block_size == STOCK_BYTES:
                    block = take_block()
                if block == NULL:
                    block = aligned_block(block_size)
                if block == NULL:
                    free(slab.links[count - 1])
    if block == NULL:
        with gil:
            raise MemoryError(f"no memory for block {count} of a market's lists")
    slab.blocks[count - 1] = <char*>block
    slab.room = <uint32_t>(count << bits)
    return 0


cdef int take_chunk(ChunkPool* pool, uint32_t size, uint32_t* chunk) except -1 nogil:
    cdef Slab* slab = &pool.slabs[size]
    if slab.free:
        chunk[0] = slab.free
        slab.free = links_of(pool, slab.free).after
        return 0
    while slab.fresh >= slab.room:
        add_block(slab, size)
    chunk[0] = slab.fresh << 2 | size
    slab.fresh += 1
    return 0


cdef inline void give_back(ChunkPool* pool, uint32_t chunk) noexcept nogil:
    cdef Slab* slab = &pool.slabs[size_of(chunk)]
    links_of(pool, chunk).after = slab.free
    slab.free = chunk


cdef void init_chain(Chain* chain) noexcept nogil:
    chain.newest = NULL
    chain.first = chain.last = 0
    chain.count = chain.head = chain.room = 0


cdef void free_chain(ChunkPool* pool, Chain* chain) noexcept nogil:
    cdef uint32_t chunk = chain.first, after
    while chunk:
        after = links_of(pool, chunk).after
        give_back(pool, chunk)
        chunk = after
    init_chain(chain)


cdef char* append_chunk(ChunkPool* pool, Chain* chain, int width) except NULL nogil:
    cdef Place place
    cdef uint32_t size = 0 if not chain.last else 2 if width >= WIDE else 1
    place.i = 0
    take_chunk(pool, size, &place.chunk)
    links_of(pool, place.chunk).before = chain.last
    links_of(pool, place.chunk).after = 0
    if chain.last:
        links_of(pool, chain.last).after = place.chunk
    else:
        chain.first = place.chunk
    chain.last = place.chunk
    chain.count += 1
    chain.room = <int16_t>(places_in(place.chunk, width) - 1)
    chain.newest = element(pool, width, place)
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
    if chain.head == places_in(chunk, width):
        chain.head = 0
        chain.first = links_of(pool, chunk).after
        links_of(pool, chain.first).before = 0
        give_back(pool, chunk)


cdef void fetch_chunk(const ChunkPool* pool, uint32_t chunk) noexcept nogil:
    cdef char* line
    cdef int i
    if chunk:
        line = bytes_of(pool, chunk)
        for i in range((1 << chunk_bits(size_of(chunk))) // LINE):
            fetch_line(line + i * LINE)


# ---- as bytes ----

cdef int write_chain(Writer* writer, const ChunkPool* pool, const Chain* chain, int width) except -1:
    cdef Place place = first_place(chain)
    cdef int32_t left = chain.count, run
    cdef uint32_t after
    while left:
        after = links_of(pool, place.chunk).after
        fetch_chunk(pool, after)
        run = min(left, places_in(place.chunk, width) - place.i)
        write_block(writer, element(pool, width, place), run * width)
        left -= run
        place.chunk = after
        place.i = 0
    return 0


cdef int read_chain(Cursor* cursor, ChunkPool* pool, Chain* chain, int width, int32_t count) except -1:
    cdef char* first
    cdef int32_t run
    while chain.count < count:
        first = append(pool, chain, width)
        run = min(count - chain.count, <int32_t>chain.room)
        chain.room -= <int16_t>run
        chain.count += run
        chain.newest += run * width
        read_block(cursor, first, (run + 1) * width)
    return 0
