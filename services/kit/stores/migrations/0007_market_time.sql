-- Whose market's data these are, and housekeeping that goes by that market's time.

-- One row, from the first start on: another market's mesh is refused.
CREATE TABLE market_source (
    is_only BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (is_only),
    market  TEXT NOT NULL CHECK (market IN ('simulator', 'vendor')),
    since   TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- How long rows are kept is a setting. With TimescaleDB a chunk is compressed so long after its end: daily bars
-- later than the nightly work goes back for the days that a year lacks.
ALTER TABLE series DROP COLUMN retention, ADD COLUMN compress_after INTERVAL NOT NULL DEFAULT '7 days';
UPDATE series SET compress_after = '400 days' WHERE name = 'daily_ohlc';

DROP FUNCTION housekeeping(TIMESTAMPTZ);

-- Makes partitions for the four weeks after `moment`, the market's time, gives rows without a partition theirs, and
-- drops what is older than `keep` says, days by table: {"aggregates_1min": 90}. What `keep` does not name, or names
-- with 0, stays. `part` is one of these tables; without it all are done. Returns what was done.
--
-- A series is locked before any of its rows: a writer that has locked the table may want the very row that would be
-- moved. data_maintenance calls it for one table at a time, each in its own transaction, so that no two are held.
CREATE FUNCTION housekeeping(moment TIMESTAMPTZ, keep JSONB DEFAULT '{}', part TEXT DEFAULT NULL)
RETURNS TABLE (series_name TEXT, action TEXT, amount BIGINT)
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    one     series%ROWTYPE;
    days    INTEGER;
    oldest  TIMESTAMPTZ;
    week    TIMESTAMPTZ;
    stray   TEXT;
    old     TEXT[];
    each    TEXT;
    is_due  BOOLEAN;
BEGIN
    FOR one IN SELECT * FROM series WHERE part IS NULL OR name = part ORDER BY name LOOP
        series_name := one.name;
        stray := one.name || '_default';
        days := coalesce((keep ->> one.name)::integer, 0);
        oldest := CASE WHEN days > 0 THEN moment - make_interval(days => days) END;
        IF to_regclass(stray) IS NULL THEN
            -- A hypertable.
            IF oldest IS NOT NULL THEN
                EXECUTE format('SELECT count(*) FROM drop_chunks(%L, older_than => %L::%s)', one.name, oldest,
                               CASE WHEN one.time_column = 'date' THEN 'date' ELSE 'timestamptz' END) INTO amount;
                action := 'chunks dropped';
                IF amount > 0 THEN RETURN NEXT; END IF;
            END IF;
            CONTINUE;
        END IF;
        SELECT array_agg(relname ORDER BY relname) INTO old
        FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
        WHERE inhparent = to_regclass(one.name) AND relname ~ '_[0-9]{8}$'
          AND to_timestamp(right(relname, 8) || ' 00+00', 'YYYYMMDD HH24TZH') + one.span <= oldest;
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', stray) INTO is_due;
        week := date_bin(one.span, moment, '2000-01-03 00:00+00');
        WHILE NOT is_due AND week < moment + INTERVAL '28 days' LOOP
            is_due := to_regclass(one.name || '_' || to_char(week, 'YYYYMMDD')) IS NULL;
            week := week + one.span;
        END LOOP;
        CONTINUE WHEN old IS NULL AND NOT is_due;
        EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', one.name);
        IF oldest IS NOT NULL THEN
            EXECUTE format('DELETE FROM %I WHERE %I < $1', stray, one.time_column) USING oldest;
            GET DIAGNOSTICS amount = ROW_COUNT;
            action := 'rows deleted';
            IF amount > 0 THEN RETURN NEXT; END IF;
            action := 'partitions dropped';
            FOREACH each IN ARRAY coalesce(old, '{}') LOOP
                EXECUTE format('DROP TABLE %I', each);
            END LOOP;
            amount := coalesce(cardinality(old), 0);
            IF amount > 0 THEN RETURN NEXT; END IF;
        END IF;
        action := 'partitions made';
        amount := make_partitions(one.name, moment, moment + INTERVAL '28 days');
        FOR week IN EXECUTE format('SELECT DISTINCT date_bin($1, %I::timestamptz, $2) FROM %I ORDER BY 1',
                                   one.time_column, stray)
                    USING one.span, '2000-01-03 00:00+00'::timestamptz
        LOOP
            amount := amount + make_partitions(one.name, week, week + INTERVAL '1 second');
        END LOOP;
        IF amount > 0 THEN RETURN NEXT; END IF;
    END LOOP;
    action := 'rows deleted';
    series_name := 'slot_days';
    days := coalesce((keep ->> series_name)::integer, 0);
    IF days > 0 AND (part IS NULL OR part = series_name) THEN
        oldest := moment - make_interval(days => days);
        DELETE FROM slot_days WHERE date < oldest::date;
        GET DIAGNOSTICS amount = ROW_COUNT;
        DELETE FROM load_units WHERE kind = 'slots' AND unit < to_char(oldest, 'YYYY-MM-DD');
        IF amount > 0 THEN RETURN NEXT; END IF;
    END IF;
    series_name := 'load_jobs';
    days := coalesce((keep ->> series_name)::integer, 0);
    IF days > 0 AND (part IS NULL OR part = series_name) THEN
        -- Dated by this clock, not by the market's.
        DELETE FROM load_jobs WHERE ended_at < clock_timestamp() - make_interval(days => days);
        GET DIAGNOSTICS amount = ROW_COUNT;
        IF amount > 0 THEN RETURN NEXT; END IF;
    END IF;
END
$$;

-- With TimescaleDB: the chunks that ended so long before `moment`, the market's time, that they are to be compressed.
CREATE FUNCTION chunks_to_compress(moment TIMESTAMPTZ) RETURNS SETOF TEXT LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN QUERY EXECUTE
            'SELECT format(''%I.%I'', chunk_schema, chunk_name) FROM timescaledb_information.chunks
             JOIN series ON name = hypertable_name
             WHERE NOT is_compressed AND range_end <= $1 - compress_after ORDER BY hypertable_name, range_end'
            USING moment;
    END IF;
END
$$;

-- TimescaleDB's own policies follow the wall clock: a simulated market's rows would be years old to them.
DO $$
DECLARE
    one series%ROWTYPE;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN;
    END IF;
    FOR one IN SELECT * FROM series LOOP
        PERFORM remove_retention_policy(one.name::regclass, if_exists => TRUE);
        EXECUTE format('CALL remove_columnstore_policy(%L, if_exists => TRUE)', one.name);
    END LOOP;
END
$$;
