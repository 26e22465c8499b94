# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""A stock of prepared memory, one for the process; see block_stock.pxd."""

from libc.stdint cimport int64_t
from libc.string cimport memset

from fastcore.memory cimport aligned_block

cdef extern from *:
    """
    #include <pthread.h>
    #include <stdint.h>

    #define TRADEUL_STOCK 4

    static pthread_mutex_t tradeul_stock_lock = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t tradeul_stock_taken = PTHREAD_COND_INITIALIZER;
    static char *tradeul_stock[TRADEUL_STOCK];
    static int tradeul_stock_count;
    static int64_t tradeul_stock_given;

    static char *tradeul_take_block(void)
    {
        char *block = NULL;
        /* Whoever prepares may have lost its processor while it holds the lock: nobody waits for that. */
        if (pthread_mutex_trylock(&tradeul_stock_lock) != 0)
            return NULL;
        if (tradeul_stock_count > 0) {
            block = tradeul_stock[--tradeul_stock_count];
            tradeul_stock_given++;
            pthread_cond_signal(&tradeul_stock_taken);
        }
        pthread_mutex_unlock(&tradeul_stock_lock);
        return block;
    }

    static void tradeul_put_block(char *block)
    {
        pthread_mutex_lock(&tradeul_stock_lock);
        while (tradeul_stock_count == TRADEUL_STOCK)
            pthread_cond_wait(&tradeul_stock_taken, &tradeul_stock_lock);
        tradeul_stock[tradeul_stock_count++] = block;
        pthread_mutex_unlock(&tradeul_stock_lock);
    }

    /* The child of a fork has the lock, but not the thread that may hold it or wait for it. */
    static void tradeul_begin_child(void)
    {
        pthread_mutex_init(&tradeul_stock_lock, NULL);
        pthread_cond_init(&tradeul_stock_taken, NULL);
        tradeul_stock_count = 0;
    }

    static int tradeul_watch_forks(void)
    {
        return pthread_atfork(NULL, NULL, tradeul_begin_child);
    }

    static void tradeul_count_blocks(int64_t *in_stock, int64_t *taken)
    {
        pthread_mutex_lock(&tradeul_stock_lock);
        *in_stock = tradeul_stock_count;
        *taken = tradeul_stock_given;
        pthread_mutex_unlock(&tradeul_stock_lock);
    }
    """
    char* _take_block "tradeul_take_block"() noexcept nogil
    # Waits while the stock is full.
    void _put_block "tradeul_put_block"(char* block) noexcept nogil
    int _watch_forks "tradeul_watch_forks"() noexcept nogil
    void _count_blocks "tradeul_count_blocks"(int64_t* in_stock, int64_t* taken) noexcept nogil


if _watch_forks() != 0:
    raise MemoryError("no memory to be told of forks")


cdef char* take_block() noexcept nogil:
    return _take_block()


def count_blocks():
    """How many blocks are in stock, and how many have been taken so far."""
    cdef int64_t in_stock = 0, taken = 0
    _count_blocks(&in_stock, &taken)
    return in_stock, taken


def prepare_blocks():
    """Prepares blocks for whoever takes one, and waits while there are enough: to be run by a thread of its own.

    The other threads go on meanwhile. Never returns; raises MemoryError when there is no more memory.
    """
    cdef char* block
    with nogil:
        while True:
            block = <char*>aligned_block(STOCK_BYTES)
            if block == NULL:
                break
            memset(block, 0, STOCK_BYTES)
            _put_block(block)
    raise MemoryError(f"no memory for a block of {<int>STOCK_BYTES} bytes")
