-- The history: records of loads, and the storage of time series: as hypertables with
-- TimescaleDB, else in partitions that are made ahead and dropped.

CREATE TABLE ticker_universe (
    symbol          TEXT PRIMARY KEY,
    is_active       BOOLEAN NOT NULL,
    first_seen      DATE NOT NULL,
    -- The newest day on which the vendor listed it.
    last_seen       DATE NOT NULL CHECK (last_seen >= first_seen),
    reason_removed  TEXT CHECK (reason_removed IS NULL OR NOT is_active),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE market_holidays (
    date        DATE PRIMARY KEY,
    name        TEXT,
    -- NULL: closed all day; else the early close, New York time.
    close       TIME,
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- One row per requested load.
CREATE TABLE load_jobs (
    job_id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        TEXT NOT NULL,
    source      TEXT NOT NULL,
    first_date  DATE NOT NULL,
    last_date   DATE NOT NULL,
    state       TEXT NOT NULL DEFAULT 'RUNNING'
                CHECK (state IN ('RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED', 'INTERRUPTED')),
    -- Units: days or symbols.
    total       BIGINT NOT NULL DEFAULT 0,
    done        BIGINT NOT NULL DEFAULT 0,
    skipped     BIGINT NOT NULL DEFAULT 0,
    failed      BIGINT NOT NULL DEFAULT 0,
    rows        BIGINT NOT NULL DEFAULT 0,
    set_aside   BIGINT NOT NULL DEFAULT 0,
    step        TEXT NOT NULL DEFAULT '',
    error       TEXT,
    started_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    ended_at    TIMESTAMPTZ
);

-- The loaded units, days or symbols, each written in one transaction with its rows.
CREATE TABLE load_units (
    kind        TEXT NOT NULL,
    unit        TEXT NOT NULL,
    source      TEXT NOT NULL,
    -- Of the file as it was read: one that changed since is read again.
    fingerprint TEXT NOT NULL,
    rows        BIGINT NOT NULL,
    set_aside   BIGINT NOT NULL,
    loaded_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (kind, unit)
);

-- Lines that were set aside, the first of each file. Line 0 is the whole file.
CREATE TABLE load_problems (
    job_id  BIGINT NOT NULL REFERENCES load_jobs ON DELETE CASCADE,
    place   TEXT NOT NULL,
    line    BIGINT NOT NULL,
    reason  TEXT NOT NULL,
    PRIMARY KEY (job_id, place, line)
);

-- A symbol's 5-minute slots of one day, in the shares of that day, only those with a bar:
-- slot numbers (uint8), shares (float64) and trades (uint32, all ones: unknown),
-- little-endian. A day of the whole market is 12,000 rows; 30 days make volume_slots.
CREATE TABLE slot_days (
    date    DATE NOT NULL,
    symbol  TEXT NOT NULL,
    slots   BYTEA NOT NULL,
    volume  BYTEA NOT NULL CHECK (length(volume) = 8 * length(slots)),
    trades  BYTEA NOT NULL CHECK (length(trades) = 4 * length(slots)),
    PRIMARY KEY (date, symbol)
);

-- The time series, the span of a partition or chunk of each, and its retention.
CREATE TABLE series (
    name        TEXT PRIMARY KEY,
    time_column TEXT NOT NULL,
    span        INTERVAL NOT NULL,
    segment_by  TEXT NOT NULL,
    retention   INTERVAL
);

INSERT INTO series VALUES
    ('aggregates_1min', 'time', '7 days', 'symbol', '90 days'),
    ('scan_results', 'time', '7 days', 'list', '180 days'),
    ('daily_ohlc', 'date', '364 days', 'symbol', NULL);

-- Without TimescaleDB: makes the partitions that hold [first, last), unless they are there,
-- and returns how many. Rows that came before their partition did are in the default one,
-- and move. With TimescaleDB there is nothing to do.
CREATE FUNCTION make_partitions(series_name TEXT, first TIMESTAMPTZ, last TIMESTAMPTZ) RETURNS INTEGER
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    one      series%ROWTYPE;
    made     INTEGER := 0;
    began    TIMESTAMPTZ;
    bounds   TEXT[];
    fresh    TEXT;
    stray    TEXT := series_name || '_default';
BEGIN
    SELECT * INTO STRICT one FROM series WHERE name = series_name;
    IF to_regclass(stray) IS NULL THEN
        RETURN 0;
    END IF;
    began := date_bin(one.span, first, '2000-01-03 00:00+00');
    WHILE began < last LOOP
        fresh := series_name || '_' || to_char(began, 'YYYYMMDD');
        IF to_regclass(fresh) IS NULL THEN
            -- Writers wait until the rows have moved; whoever makes the same one, too.
            EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', series_name);
        END IF;
        IF to_regclass(fresh) IS NULL THEN
            bounds := ARRAY[to_char(began, 'YYYY-MM-DD'),
                            to_char(began + one.span, 'YYYY-MM-DD')];
            IF one.time_column <> 'date' THEN
                bounds := ARRAY[bounds[1] || ' 00:00+00', bounds[2] || ' 00:00+00'];
            END IF;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', fresh, series_name);
            EXECUTE format('INSERT INTO %1$I SELECT * FROM %2$I WHERE %3$I >= %4$L AND %3$I < %5$L',
                           fresh, stray, one.time_column, bounds[1], bounds[2]);
            EXECUTE format('DELETE FROM %1$I WHERE %2$I >= %3$L AND %2$I < %4$L',
                           stray, one.time_column, bounds[1], bounds[2]);
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
                           series_name, fresh, bounds[1], bounds[2]);
            made := made + 1;
        END IF;
        began := began + one.span;
    END LOOP;
    RETURN made;
END
$$;

-- To be called about once a day with the mesh's now: makes partitions for the four weeks to
-- come, gives rows without a partition theirs, and drops what is older than its retention.
-- Hypertables have policies for that, which follow the wall clock. Returns what was done.
CREATE FUNCTION housekeeping(moment TIMESTAMPTZ) RETURNS TABLE (series_name TEXT, action TEXT, amount BIGINT)
LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
    one     series%ROWTYPE;
    oldest  TIMESTAMPTZ;
    week    TIMESTAMPTZ;
    part    TEXT;
BEGIN
    FOR one IN SELECT * FROM series ORDER BY name LOOP
        series_name := one.name;
        CONTINUE WHEN to_regclass(one.name || '_default') IS NULL;
        oldest := moment - one.retention;
        IF oldest IS NOT NULL THEN
            EXECUTE format('DELETE FROM %I WHERE %I < $1', one.name || '_default', one.time_column) USING oldest;
            GET DIAGNOSTICS amount = ROW_COUNT;
            action := 'rows deleted';
            IF amount > 0 THEN RETURN NEXT; END IF;
            action := 'partitions dropped';
            amount := 0;
            FOR part IN
                SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                WHERE inhparent = to_regclass(one.name) AND relname ~ '_[0-9]{8}$'
                  AND to_timestamp(right(relname, 8) || ' 00+00', 'YYYYMMDD HH24TZH') + one.span <= oldest
            LOOP
                EXECUTE format('DROP TABLE %I', part);
                amount := amount + 1;
            END LOOP;
            IF amount > 0 THEN RETURN NEXT; END IF;
        END IF;
        action := 'partitions made';
        amount := make_partitions(one.name, moment, moment + INTERVAL '28 days');
        FOR week IN EXECUTE format('SELECT DISTINCT date_bin($1, %I::timestamptz, $2) FROM %I',
                                   one.time_column, one.name || '_default')
                    USING one.span, '2000-01-03 00:00+00'::timestamptz
        LOOP
            amount := amount + make_partitions(one.name, week, week + INTERVAL '1 second');
        END LOOP;
        IF amount > 0 THEN RETURN NEXT; END IF;
    END LOOP;
    action := 'rows deleted';
    series_name := 'slot_days';
    DELETE FROM slot_days WHERE date < (moment - INTERVAL '90 days')::date;
    GET DIAGNOSTICS amount = ROW_COUNT;
    DELETE FROM load_units WHERE kind = 'slots' AND unit < to_char(moment - INTERVAL '90 days', 'YYYY-MM-DD');
    IF amount > 0 THEN RETURN NEXT; END IF;
    series_name := 'load_jobs';
    DELETE FROM load_jobs WHERE ended_at < moment - INTERVAL '180 days';
    GET DIAGNOSTICS amount = ROW_COUNT;
    IF amount > 0 THEN RETURN NEXT; END IF;
END
$$;

-- TimescaleDB where it can be had: the extension is there, or is preloaded and may be made.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
       AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')
       AND EXISTS (SELECT FROM pg_settings WHERE name = 'shared_preload_libraries' AND setting LIKE '%timescaledb%')
    THEN
        CREATE EXTENSION timescaledb;
    END IF;
END
$$;

-- Chunks are compressed a week after their end, which keeps bulk loads of recent days cheap.
DO $$
DECLARE
    one series%ROWTYPE;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN;
    END IF;
    FOR one IN SELECT * FROM series LOOP
        PERFORM create_hypertable(one.name::regclass, by_range(one.time_column, one.span), migrate_data => TRUE);
        EXECUTE format('ALTER TABLE %I SET (timescaledb.enable_columnstore, timescaledb.segmentby = %L, timescaledb.orderby = %L)',
                       one.name, one.segment_by, quote_ident(one.time_column) || ' DESC');
        EXECUTE format('CALL add_columnstore_policy(%L, after => INTERVAL ''7 days'')', one.name);
        IF one.retention IS NOT NULL THEN
            PERFORM add_retention_policy(one.name::regclass, one.retention);
        END IF;
    END LOOP;
    EXECUTE $view$
        CREATE MATERIALIZED VIEW aggregates_5min WITH (timescaledb.continuous, timescaledb.materialized_only = FALSE) AS
        SELECT time_bucket(INTERVAL '5 minutes', time) AS time, symbol,
               first(open, time) AS open, max(high) AS high, min(low) AS low, last(close, time) AS close,
               sum(volume) AS volume,
               sum(vwap * volume) / nullif(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0) AS vwap,
               sum(trades)::bigint AS trades
        FROM aggregates_1min GROUP BY 1, symbol WITH NO DATA
    $view$;
    PERFORM add_continuous_aggregate_policy('aggregates_5min', start_offset => INTERVAL '3 days',
        end_offset => INTERVAL '5 minutes', schedule_interval => INTERVAL '5 minutes');
END
$$;

DO $$
DECLARE
    one  series%ROWTYPE;
    keys TEXT;
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RETURN;
    END IF;
    FOR one IN SELECT * FROM series LOOP
        SELECT pg_get_constraintdef(oid) INTO STRICT keys
        FROM pg_constraint WHERE conrelid = one.name::regclass AND contype = 'p';
        EXECUTE format('ALTER TABLE %I RENAME TO before_partitions', one.name);
        EXECUTE format('CREATE TABLE %I (LIKE before_partitions INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
                       ' PARTITION BY RANGE (%I)', one.name, one.time_column);
        EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', one.name || '_default', one.name);
        EXECUTE format('INSERT INTO %I SELECT * FROM before_partitions', one.name);
        DROP TABLE before_partitions;
        EXECUTE format('ALTER TABLE %I ADD %s', one.name, keys);
    END LOOP;
    CREATE INDEX scan_results_time ON scan_results (time DESC, list, rank, symbol);
    CREATE INDEX daily_ohlc_symbol ON daily_ohlc (symbol, date DESC);
    CREATE VIEW aggregates_5min AS
        SELECT date_bin('5 minutes', time, '2000-01-03 00:00+00') AS time, symbol,
               (array_agg(open ORDER BY time))[1] AS open, max(high) AS high, min(low) AS low,
               (array_agg(close ORDER BY time DESC))[1] AS close, sum(volume) AS volume,
               sum(vwap * volume) / nullif(sum(volume) FILTER (WHERE vwap IS NOT NULL), 0) AS vwap,
               sum(trades)::bigint AS trades
        FROM aggregates_1min GROUP BY 1, symbol;
    -- Rows that are there get their partitions from housekeeping, which knows the market's time; nothing is deleted here.
    FOR one IN SELECT * FROM series LOOP
        PERFORM make_partitions(one.name, now(), now() + INTERVAL '28 days');
    END LOOP;
END
$$;
