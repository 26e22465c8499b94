# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True

# Large blocks that begin with a line of the cache, and a huge page where the
# system gives some: rows and columns of symbols are visited in no order.

cdef extern from *:
    """
    #include <stdlib.h>
    #if defined(__linux__)
    #include <sys/mman.h>
    #endif

    #define TRADEUL_LINE 64
    #define TRADEUL_HUGE_PAGE (2u << 20)
    /* Large blocks that grow have addresses for a multiple of so many bytes: 100,000 and more of the widest rows.
       A build with sanitizers has none that are not needed: what is read or written too far is then found. */
    #ifndef TRADEUL_RESERVED
    #define TRADEUL_RESERVED (128u << 20)
    #endif

    static inline void *tradeul_block(size_t size)
    {
        size_t unit = size < TRADEUL_HUGE_PAGE ? TRADEUL_LINE : TRADEUL_HUGE_PAGE;
        void *block;
        size = (size + unit - 1) / unit * unit;
        block = aligned_alloc(unit, size);
    #if defined(MADV_HUGEPAGE)
        /* Only advice: without huge pages all is the same but slower. Memory that was in use before may have small
           pages, which would stay. Once they are given back, newer versions of Linux (seen with 6.18) hand out huge
           pages when it is written to. */
        if (block != NULL && unit == TRADEUL_HUGE_PAGE) {
            (void)madvise(block, size, MADV_DONTNEED);
            (void)madvise(block, size, MADV_HUGEPAGE);
        }
    #endif
        return block;
    }
    """
    enum:
        HUGE_PAGE "TRADEUL_HUGE_PAGE"
        RESERVED "TRADEUL_RESERVED"
    # NULL when there is no memory; its content is arbitrary. Release with free().
    void* aligned_block "tradeul_block"(size_t size) noexcept nogil

cdef extern from *:
    """
    #define tradeul_fetch_line(address) __builtin_prefetch((const char *)(address), 1)
    """
    # Asks for a line of the cache that is to be written.
    void fetch_line "tradeul_fetch_line"(const void* address) noexcept nogil

cdef extern from *:
    """
    #ifndef TRADEUL_ROOM
    #define TRADEUL_ROOM 1024
    #endif
    """
    # How many rows more than are needed there is room for at once. A build with sanitizers has less: what is
    # read or written too far is then beyond what was allocated, and found.
    enum: ROOM "TRADEUL_ROOM"

# Room for `count` elements of `width` bytes, those that are there kept; MemoryError when there is none.
cdef int grow_array(void** data, size_t count, size_t width) except -1
# The same for bytes, from `old` to `size` of them; new ones are 0.
cdef int grow_zeroed(void** data, size_t old, size_t size) except -1
# The same for an aligned block, which realloc would not keep aligned: from `old` bytes to `size`. One of a huge page
# or more has addresses for far more, and grows in place as far as these go: nothing is copied, and the system hands
# out memory as it is written to. A copy of all rows would need twice the memory at once, all of it new, and keep trades
# waiting for up to half a second.
cdef int grow_block(void** data, size_t old, size_t size) except -1
