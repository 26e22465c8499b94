# Rows as programs read them: those of a state, or some of them side by side.

from libc.stdint cimport int32_t

cdef struct RowView:
    double** columns                # [field number][row]
    int32_t** text_columns          # [field number][row]
    const int32_t* symbol_order     # [row] -> place of its symbol in ascending order
    const int32_t* ids              # [row] -> symbol id; NULL where a row's number is that
