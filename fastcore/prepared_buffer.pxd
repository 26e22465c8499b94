from fastcore.wire cimport Writer

cdef class PreparedBuffer:
    cdef Writer writer
    cdef int views              # while there are any, what they show may not move

    cdef Writer* begin(self) except NULL    # empty; BufferError while there are views
