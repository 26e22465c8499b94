-- With TimescaleDB: decompresses the chunks that hold [first, last), and returns how many. A row for a compressed
-- chunk costs reading its symbol's whole year, a load of a day that of all symbols; written plain, the chunk costs that
-- once. data_maintenance compresses it again.
CREATE FUNCTION decompress_chunks(series_name TEXT, first TIMESTAMPTZ, last TIMESTAMPTZ) RETURNS INTEGER
LANGUAGE plpgsql AS $$
DECLARE
    compressed TEXT := 'SELECT count(*) FROM timescaledb_information.chunks WHERE hypertable_name = $1'
                       ' AND is_compressed AND range_start < $3 AND range_end > $2';
    amount     INTEGER;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN 0;
    END IF;
    EXECUTE compressed INTO amount USING series_name, first, last;
    IF amount = 0 THEN
        RETURN 0;
    END IF;
    -- Another load of the same year waits, and finds it done.
    PERFORM pg_advisory_xact_lock(hashtext('decompress'), hashtext(series_name));
    EXECUTE 'SELECT count(decompress_chunk(format(''%I.%I'', chunk_schema, chunk_name)::regclass, if_compressed => TRUE))'
            ' FROM timescaledb_information.chunks WHERE hypertable_name = $1'
            ' AND is_compressed AND range_start < $3 AND range_end > $2' INTO amount USING series_name, first, last;
    RETURN amount;
END
$$;

-- Four weeks in a chunk, from now on, where it was a year: what a load decompresses is then about what it writes.
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        PERFORM set_chunk_time_interval('daily_ohlc', INTERVAL '28 days');
    END IF;
END
$$;
