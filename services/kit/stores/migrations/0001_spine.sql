-- Scanner filters, companies and daily history.

CREATE TABLE scanner_filters (
    name        TEXT PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    enabled     BOOLEAN NOT NULL DEFAULT TRUE,
    -- The order in which they are read and shown; all of them must hold.
    priority    INTEGER NOT NULL DEFAULT 100,
    parameters  JSONB NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(parameters) = 'object'),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

INSERT INTO scanner_filters (name, enabled, priority, parameters) VALUES
    ('price_range', TRUE, 10, '{"min_price": 1}'),
    ('volume_min', TRUE, 20, '{"min_volume": 100000, "apply_to_sessions": ["MARKET_OPEN", "POST_MARKET"]}'),
    ('volume_min_premarket', TRUE, 30, '{"min_volume": 5000, "apply_to_sessions": ["PRE_MARKET"]}'),
    ('rvol_high', FALSE, 40, '{"min_rvol": 2}');

CREATE FUNCTION scanner_filters_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER scanner_filters_touch BEFORE UPDATE ON scanner_filters
    FOR EACH ROW EXECUTE FUNCTION scanner_filters_touch();

-- At each notification the followers read all filters again.
CREATE FUNCTION scanner_filters_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('scanner_filters', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER scanner_filters_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON scanner_filters
    FOR EACH STATEMENT EXECUTE FUNCTION scanner_filters_notify();

CREATE TABLE ticker_metadata (
    symbol              TEXT PRIMARY KEY,
    company_name        TEXT,
    exchange            TEXT,
    sector              TEXT,
    industry            TEXT,
    market_cap          DOUBLE PRECISION,
    float_shares        DOUBLE PRECISION,
    shares_outstanding  DOUBLE PRECISION,
    avg_volume_30d      DOUBLE PRECISION,
    avg_volume_10d      DOUBLE PRECISION,
    avg_price_30d       DOUBLE PRECISION,
    beta                DOUBLE PRECISION,
    is_etf              BOOLEAN,
    is_actively_trading BOOLEAN,
    -- The vendor's further fields, as they came.
    details             JSONB NOT NULL DEFAULT '{}',
    updated_at          TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Regular sessions, as they were on the day: not adjusted for later splits.
CREATE TABLE daily_ohlc (
    date    DATE NOT NULL,
    symbol  TEXT NOT NULL,
    open    DOUBLE PRECISION NOT NULL,
    high    DOUBLE PRECISION NOT NULL,
    low     DOUBLE PRECISION NOT NULL,
    close   DOUBLE PRECISION NOT NULL,
    volume  DOUBLE PRECISION NOT NULL,
    vwap    DOUBLE PRECISION,
    trades  BIGINT,
    PRIMARY KEY (date, symbol)
);

CREATE INDEX daily_ohlc_symbol ON daily_ohlc (symbol, date DESC);

CREATE TABLE ticker_atr (
    symbol      TEXT NOT NULL,
    date        DATE NOT NULL,
    period      INTEGER NOT NULL DEFAULT 14,
    atr         DOUBLE PRECISION NOT NULL,
    atr_percent DOUBLE PRECISION,
    PRIMARY KEY (symbol, date, period)
);

-- Cumulative since 04:00 at the end of each 5-minute slot, mean over `days` days before data_date.
CREATE TABLE volume_slots (
    symbol      TEXT NOT NULL,
    slot_number SMALLINT NOT NULL CHECK (slot_number BETWEEN 0 AND 191),
    avg_volume  DOUBLE PRECISION NOT NULL,
    avg_trades  DOUBLE PRECISION,
    sd_trades   DOUBLE PRECISION,
    days        SMALLINT NOT NULL,
    data_date   DATE NOT NULL,
    PRIMARY KEY (symbol, slot_number)
);
