# Which fields of a row differ from those of the row before: one record for each update of a list's change.

from libc.stdint cimport uint32_t

from fastcore.wire cimport Writer

cdef enum:
    RECORD = 20             # bytes of a record: the rank before, and the changed fields as bits

cdef int write_changed_fields(Writer* writer, bytes old, bytes new, uint32_t old_rank) except -1
