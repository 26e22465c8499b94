-- Tables that the mesh writes while it runs.

-- A list's rows once a minute, and every entry at its own time. Event times, so
-- that two scanners, and one that repeats itself, write the same rows.
CREATE TABLE scan_results (
    time            TIMESTAMPTZ NOT NULL,
    symbol          TEXT NOT NULL,
    list            TEXT NOT NULL,
    -- Of the moment, not of the symbol's last update.
    session         TEXT NOT NULL,
    rank            INTEGER NOT NULL,
    price           DOUBLE PRECISION,
    volume_today    DOUBLE PRECISION,
    change_percent  DOUBLE PRECISION,
    gap_percent     DOUBLE PRECISION,
    rvol            DOUBLE PRECISION,
    score           DOUBLE PRECISION,
    is_entry        BOOLEAN NOT NULL,
    PRIMARY KEY (list, time, symbol)
);

-- Of a day over all lists, newest first; the primary key serves a list's day.
CREATE INDEX scan_results_time ON scan_results (time DESC, list, rank, symbol);

-- Every minute with a trade, 04:00 to 20:00. `time` is the minute's start.
CREATE TABLE aggregates_1min (
    time    TIMESTAMPTZ NOT NULL,
    symbol  TEXT NOT NULL,
    open    DOUBLE PRECISION NOT NULL,
    high    DOUBLE PRECISION NOT NULL,
    low     DOUBLE PRECISION NOT NULL,
    close   DOUBLE PRECISION NOT NULL,
    volume  DOUBLE PRECISION NOT NULL,
    vwap    DOUBLE PRECISION,
    trades  BIGINT,
    PRIMARY KEY (symbol, time)
);
