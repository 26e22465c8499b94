# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Memory that is there before it is needed.

The system hands out memory page by page, when it is first written to, and for a snapshot of tens of megabytes that
takes longer than copying it. A buffer that another thread has prepared is only copied into.
"""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.string cimport memset

from fastcore.wire cimport Writer, writer_free, writer_init


cdef class PreparedBuffer:
    """Bytes to be written by a snapshot, and then read as of any buffer.

    `size`: how many are prepared, by prepare() when `is_prepared` is false. ValueError when negative,
    MemoryError when there are not as many. Other threads go on meanwhile.
    """

    def __cinit__(self, Py_ssize_t size, bint is_prepared=True):
        if size < 0:
            raise ValueError(f"expected a size of at least 0 bytes, was {size}")
        with nogil:
            writer_init(&self.writer, size)
            if is_prepared:
                memset(self.writer.data, 0, self.writer.capacity)

    def prepare(self, Py_ssize_t begin, Py_ssize_t count):
        """Prepares `count` bytes from byte `begin` on, as far as there are; BufferError once something is written."""
        cdef Py_ssize_t end = min(begin + count, <Py_ssize_t>self.writer.capacity)
        if self.writer.size:
            raise BufferError("expected a buffer in which nothing is written, was one with content")
        if 0 <= begin < end:
            with nogil:
                memset(self.writer.data + begin, 0, end - begin)

    def __dealloc__(self):
        with nogil:
            writer_free(&self.writer)

    def __len__(self):
        return self.writer.size

    @property
    def capacity(self):
        """Bytes that it has room for without growing."""
        return self.writer.capacity

    cdef Writer* begin(self) except NULL:
        if self.views:
            raise BufferError("expected a buffer that nobody looks at, was one with views")
        self.writer.size = 0
        return &self.writer

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.writer.data, self.writer.size, 1, flags)
        self.views += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.views -= 1
