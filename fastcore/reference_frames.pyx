# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Reference frames: symbols, companies, baselines, trading days and splits."""

from array import array
from datetime import date

from libc.math cimport isnan
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastcore.baselines cimport SLOTS, Baselines, fill_symbol, set_baseline
from fastcore.columns cimport check_ids, is_time
from fastcore.day_table cimport DayBounds, DayTable, touch
from fastcore.field_numbers cimport *
from fastcore.row_values cimport Column
from fastcore.text_pool cimport TextPool, decoded
from fastcore.wire cimport (
    WIRE_END, WIRE_FIELD, WIRE_FIXED32, WIRE_FIXED64, WIRE_LENGTH, WIRE_VARINT, Cursor, Field, bytes_ptr, enter,
    load_f64, load_u32, next_field, raise_wire_error,
)

cdef enum:
    # ReferenceField of the first text column, and of the numbers that are a yes or no.
    FIRST_TEXT = 32
    IS_ETF = 11
    PREV_SSR = 26
    IDS = 16
    NUMBERS = 17
    TEXTS = 18
    REASONS = 19                # of HaltBatch
    LONGEST_SYMBOL = 127        # a row's encoding has one byte for its length

# By ReferenceField.
NUMBER_COLUMNS[:] = [
    F_PREV_CLOSE, F_PREV_VOLUME, F_AVG_VOLUME_10D, F_AVG_VOLUME_30D, F_AVG_PRICE_30D, F_ATR, F_FLOAT_SHARES,
    F_SHARES_OUTSTANDING, F_MARKET_CAP, F_BETA, F_IS_ETF,
    F_PREV_OPEN, F_PREV_HIGH, F_PREV_LOW, F_HIGH_5D, F_LOW_5D, F_HIGH_20D, F_LOW_20D, F_HIGH_52W, F_LOW_52W, F_SMA_20D,
    F_SMA_50D, F_SMA_200D, C_CLOSE_5D, C_CLOSE_20D, C_PREV_SSR,
]
TEXT_COLUMNS[:] = [F_COMPANY_NAME, F_EXCHANGE, F_SECTOR, F_INDUSTRY, F_SECURITY_TYPE, F_LIST_DATE]
HISTORY_COLUMNS[:] = [
    F_PREV_CLOSE, F_PREV_VOLUME, F_PREV_OPEN, F_PREV_HIGH, F_PREV_LOW, F_HIGH_5D, F_LOW_5D, F_HIGH_20D, F_LOW_20D,
    F_HIGH_52W, F_LOW_52W, F_SMA_20D, F_SMA_50D, F_SMA_200D, C_CLOSE_5D, C_CLOSE_20D, C_PREV_SSR,
    F_AVG_VOLUME_10D, F_AVG_VOLUME_30D, F_AVG_PRICE_30D, F_ATR,
]


cdef int expect_wire(const Field* field, uint32_t wire_type, str what) except -1:
    if field.wire_type != wire_type:
        raise ValueError(f"{what}: expected wire type {wire_type}, was {field.wire_type}")
    return 0


cdef int take_packed(const Field* field, size_t width, Packed* column, str what) except -1:
    """A packed column in one piece of elements of `width` bytes."""
    expect_wire(field, WIRE_LENGTH, what)
    if column.is_given:
        raise ValueError(f"{what}: expected one piece, was several")
    if field.length % width:
        raise ValueError(f"{what}: expected a multiple of {width} bytes, was {field.length}")
    column.is_given = True
    column.data = field.data
    column.count = <Py_ssize_t>(field.length // width)
    return 0


cdef int expect_count(const Packed* column, Py_ssize_t count, str what) except -1:
    if column.count != count:
        raise ValueError(f"{what}: expected {count} values, was {column.count}")
    return 0


# ---- days, symbols, watermarks ----

cdef bint is_date(str text):
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


cdef tuple parse_trading_day(const Field* body, DayBounds* bounds, Splits* splits, int32_t count):
    cdef Cursor cursor = enter(body)
    cdef Field field
    cdef int64_t[4] times
    cdef str text = "", next_text = ""
    cdef int i, status = next_field(&cursor, &field)
    times[0] = times[1] = times[2] = times[3] = 0
    splits.ids.is_given = splits.is_unknown = False
    splits.ids.data = NULL
    splits.ids.count = 0
    while status == WIRE_FIELD:
        if field.number == 1:
            expect_wire(&field, WIRE_LENGTH, "TradingDay.trading_date")
            text = decoded(&field, "TradingDay.trading_date")
        elif 2 <= field.number <= 5:
            expect_wire(&field, WIRE_FIXED64, "TradingDay: a session's time")
            times[field.number - 2] = <int64_t>field.value
        elif field.number == 7:
            expect_wire(&field, WIRE_LENGTH, "TradingDay.next_trading_date")
            next_text = decoded(&field, "TradingDay.next_trading_date")
        elif field.number == 8:
            take_packed(&field, 4, &splits.ids, "TradingDay.split_symbol_id")
        elif field.number == 9:
            expect_wire(&field, WIRE_VARINT, "TradingDay.splits_unknown")
            splits.is_unknown = field.value != 0
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TradingDay")
    if not (
        0 < times[0] < times[1] < times[2] < times[3] and is_time(times[3])
    ):
        raise ValueError(f"TradingDay: expected sessions that follow each other, was {[times[i] for i in range(4)]}")
    if not is_date(text):
        raise ValueError(f"TradingDay.trading_date: expected YYYY-MM-DD, was {text!r}")
    if next_text and (not is_date(next_text) or next_text <= text):
        raise ValueError(f"TradingDay.next_trading_date: expected a date after {text}, was {next_text!r}")
    check_ids(splits.ids.data, splits.ids.count, <uint32_t>count)
    bounds.start = times[0]
    bounds.open = times[1]
    bounds.close = times[2]
    bounds.end = times[3]
    return text, next_text


cdef list parse_symbols(const Field* body, int32_t count):
    cdef Cursor cursor = enter(body)
    cdef Field field
    cdef uint64_t first_id = 0
    cdef list symbols = []
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == 1:
            expect_wire(&field, WIRE_FIXED32, "SymbolTable.first_id")
            first_id = field.value
        elif field.number == 2:
            expect_wire(&field, WIRE_LENGTH, "SymbolTable.symbols")
            if not 0 < field.length <= LONGEST_SYMBOL:
                raise ValueError(f"SymbolTable.symbols: expected 1 to {LONGEST_SYMBOL} bytes, was {field.length}")
            symbols.append(decoded(&field, "SymbolTable.symbols"))
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"SymbolTable")
    if first_id != <uint64_t>count:
        raise ValueError(f"SymbolTable.first_id: expected {count}, was {first_id}")
    return symbols


cdef int64_t parse_watermark(const Field* body) except -1:
    """The time of a Watermark, ns since 1970 UTC."""
    cdef Cursor cursor = enter(body)
    cdef Field field
    cdef int64_t time_ns = 0
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == 1:
            expect_wire(&field, WIRE_FIXED64, "Watermark.event_time_ns")
            time_ns = <int64_t>field.value
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"Watermark")
    if not is_time(time_ns):
        raise ValueError(f"Watermark.event_time_ns: expected ns since 1970, was {time_ns}")
    return time_ns


cdef parse_reasons(const Field* body, Py_ssize_t rows, TextPool pool):
    cdef Cursor cursor = enter(body)
    cdef Field field
    codes = array("i")
    # The columns have been read: there is nothing that cannot be.
    while next_field(&cursor, &field) == WIRE_FIELD:
        if field.number == REASONS:
            expect_wire(&field, WIRE_LENGTH, "HaltBatch.reason")
            codes.append(pool.add(decoded(&field, "HaltBatch.reason")))
    if len(codes) != rows:
        raise ValueError(f"HaltBatch.reason: expected {rows} values as in symbol_id, was {len(codes)}")
    return codes


# ---- reference values ----

cdef int apply_reference(
    const Field* body, DayTable* table, Column* columns, int32_t** text_columns, TextPool pool, int32_t count
) except -1:
    cdef Cursor cursor = enter(body)
    cdef Field field
    cdef Packed ids
    cdef Py_ssize_t i
    cdef int status = next_field(&cursor, &field)
    ids.is_given = False
    ids.data = NULL
    ids.count = 0
    while status == WIRE_FIELD:
        if field.number == IDS:
            take_packed(&field, 4, &ids, "ReferenceColumns.symbol_id")
        elif field.number == NUMBERS or field.number == TEXTS:
            expect_wire(&field, WIRE_LENGTH, "ReferenceColumns: a column")
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"ReferenceColumns")
    check_ids(ids.data, ids.count, <uint32_t>count)
    cursor = enter(body)
    while next_field(&cursor, &field) == WIRE_FIELD:
        if field.number == NUMBERS:
            apply_numbers(&field, &ids, columns)
        elif field.number == TEXTS:
            apply_texts(&field, &ids, text_columns, pool)
    for i in range(ids.count):
        touch(table, load_u32(ids.data, i))
    return 0


cdef int apply_numbers(const Field* column, const Packed* ids, Column* columns) except -1:
    cdef Cursor cursor = enter(column)
    cdef Field field
    cdef Packed values
    cdef uint64_t reference = 0
    cdef Column target
    cdef double value
    cdef Py_ssize_t i
    cdef int status = next_field(&cursor, &field)
    values.is_given = False
    values.data = NULL
    values.count = 0
    while status == WIRE_FIELD:
        if field.number == 1:
            expect_wire(&field, WIRE_VARINT, "NumberColumn.field")
            reference = field.value
        elif field.number == 2:
            take_packed(&field, 8, &values, "NumberColumn.values")
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"NumberColumn")
    if not 1 <= reference <= NUMBER_FIELDS:
        raise ValueError(f"NumberColumn.field: expected a number of 1 to {NUMBER_FIELDS}, was {reference}")
    expect_count(&values, ids.count, f"NumberColumn.values of field {reference}")
    target = columns[NUMBER_COLUMNS[reference - 1]]
    for i in range(ids.count):
        value = load_f64(values.data, i)
        if (reference == IS_ETF or reference == PREV_SSR) and not isnan(value):
            value = value != 0
        target.values[load_u32(ids.data, i) * target.stride] = value
    return 0


cdef int apply_texts(const Field* column, const Packed* ids, int32_t** text_columns, TextPool pool) except -1:
    cdef Cursor cursor = enter(column)
    cdef Field field
    cdef uint64_t reference = 0
    cdef int32_t* target
    cdef Py_ssize_t i
    cdef list codes = []
    cdef int status = next_field(&cursor, &field)
    while status == WIRE_FIELD:
        if field.number == 1:
            expect_wire(&field, WIRE_VARINT, "TextColumn.field")
            reference = field.value
        elif field.number == 2:
            expect_wire(&field, WIRE_LENGTH, "TextColumn.values")
            codes.append(pool.add(decoded(&field, "TextColumn.values")))
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"TextColumn")
    if not FIRST_TEXT <= reference < FIRST_TEXT + TEXT_FIELDS:
        raise ValueError(
            f"TextColumn.field: expected a text of {FIRST_TEXT} to {FIRST_TEXT + TEXT_FIELDS - 1}, was {reference}"
        )
    if len(codes) != ids.count:
        raise ValueError(f"TextColumn.values of field {reference}: expected {ids.count} values, was {len(codes)}")
    target = text_columns[TEXT_COLUMNS[reference - FIRST_TEXT]]
    for i in range(ids.count):
        target[load_u32(ids.data, i)] = codes[i]
    return 0


# ---- baselines ----

cdef int apply_baselines(const Field* body, DayTable* table, Baselines* baselines, int32_t count) except -1:
    cdef Cursor cursor = enter(body)
    cdef Field field
    cdef Packed[5] parts        # ids, days, and the kinds of baselines.pxd
    cdef double[3 * SLOTS] values
    cdef uint32_t symbol_id
    cdef Py_ssize_t i
    cdef int kind, status = next_field(&cursor, &field)
    for kind in range(5):
        parts[kind].is_given = False
        parts[kind].data = NULL
        parts[kind].count = 0
    while status == WIRE_FIELD:
        if IDS <= field.number < IDS + 5:
            kind = <int>(field.number - IDS)
            take_packed(&field, 4 if kind < 2 else 8, &parts[kind], f"VolumeBaselines, field {field.number}")
        status = next_field(&cursor, &field)
    if status != WIRE_END:
        raise_wire_error(status, b"VolumeBaselines")
    check_ids(parts[0].data, parts[0].count, <uint32_t>count)
    expect_count(&parts[1], parts[0].count, "VolumeBaselines.days")
    for kind in range(2, 5):
        expect_count(&parts[kind], SLOTS * parts[0].count, f"VolumeBaselines, field {IDS + kind}")
    for i in range(parts[0].count):
        symbol_id = load_u32(parts[0].data, i)
        for kind in range(3):
            memcpy(values + kind * SLOTS, parts[2 + kind].data + i * SLOTS * 8, SLOTS * 8)
        set_baseline(baselines, symbol_id, load_u32(parts[1].data, i), values)
        fill_symbol(baselines, <int32_t>symbol_id)
        touch(table, symbol_id)
    return 0
