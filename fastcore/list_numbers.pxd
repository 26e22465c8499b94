# The numbers of fields in the messages of lists (scanner.proto, ticker_row.proto), for those who read or write their
# bytes; tests compare these with the generated classes.

cdef enum:
    ROW_NUMBERS = 128       # a row's fields have numbers below
    # RankedList and ListDelta.
    LIST_NAME = 1
    EPOCH = 2
    RANKED_SEQUENCE = 3     # RankedList.sequence
    RANKED_ROWS = 4
    RANKED_TIMESTAMP = 6
    PREVIOUS_SEQUENCE = 3   # ListDelta.previous_sequence
    DELTA_SEQUENCE = 4
    DELTAS = 5
    CHANGE_COUNT = 6
    DELTA_TIMESTAMP = 7
    DELTA_POSITION = 8
    # ListChange.
    ACTION = 1
    SYMBOL = 2              # of TickerRow, too
    CHANGE_RANK = 3
    OLD_RANK = 4
    NEW_RANK = 5
    DATA = 6
    ABSENT = 7
    WATCH_DELTA = 3         # WatchListResponse.delta
    PATHS = 1               # google.protobuf.FieldMask.paths
    ROW_RANK = 1            # TickerRow.rank
