# Texts as numbers: columns of texts hold codes into one pool, 0 for "absent".

from libc.stdint cimport int32_t

from fastcore.wire cimport Cursor, Field, Writer

cdef class TextPool:
    cdef dict codes             # text -> code
    cdef list texts             # [code] -> str; the empty text has code 0
    cdef list encoded           # [code] -> the same in UTF-8

    cdef int32_t code_of(self, str text) except -2      # -1 for a text that has none
    cdef int32_t add(self, str text) except -1          # its code, a new one when it has none
    cdef int write(self, Writer* writer) except -1
    cdef int read(self, Cursor* cursor) except -1

# The text of a length-delimited field, ValueError naming `what` when it is no UTF-8.
cdef str decoded(const Field* field, str what)
cdef int write_text(Writer* writer, bytes encoded) except -1
# What write_text() wrote, whether or not it is UTF-8.
cdef bytes read_bytes(Cursor* cursor)
cdef str read_text(Cursor* cursor)
