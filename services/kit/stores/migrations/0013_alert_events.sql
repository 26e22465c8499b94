-- Every alert, once: event times and positions follow from the stream, so that two scanners write the same rows.

INSERT INTO series VALUES ('alert_events', 'time', '7 days', 'rule');

DO $$
DECLARE
    has_timescale BOOLEAN := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
BEGIN
    EXECUTE $table$
        CREATE TABLE alert_events (
            time            TIMESTAMPTZ NOT NULL,
            -- The alert's position.
            epoch           BIGINT NOT NULL,
            sequence        BIGINT NOT NULL,
            rule            TEXT NOT NULL,
            symbol          TEXT NOT NULL,
            quality         DOUBLE PRECISION,
            quality_rank    DOUBLE PRECISION,
            level           DOUBLE PRECISION,
            text            TEXT NOT NULL,
            price           DOUBLE PRECISION,
            volume_today    DOUBLE PRECISION,
            change_percent  DOUBLE PRECISION,
            rvol            DOUBLE PRECISION,
            -- The whole alert with its row, a tradeul.v1.Alert.
            alert           BYTEA NOT NULL,
            PRIMARY KEY (time, epoch, sequence)
        )
    $table$ || CASE WHEN has_timescale THEN '' ELSE ' PARTITION BY RANGE (time)' END;
    CREATE INDEX alert_events_symbol ON alert_events (symbol, time DESC);
    CREATE INDEX alert_events_rule ON alert_events (rule, time DESC);
    IF has_timescale THEN
        PERFORM create_hypertable('alert_events'::regclass, by_range('time', INTERVAL '7 days'));
        ALTER TABLE alert_events SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'rule',
                                      timescaledb.orderby = 'time DESC');
        CALL remove_columnstore_policy('alert_events', if_exists => TRUE);
    ELSE
        CREATE TABLE alert_events_default PARTITION OF alert_events DEFAULT;
        PERFORM make_partitions('alert_events', now(), now() + INTERVAL '28 days');
    END IF;
END
$$;
