-- Company data by the day from which they were known: one row per change of these columns of ticker_metadata, so that a
-- replay of a past day shows the company as it was.

CREATE TABLE ticker_metadata_history (
    symbol              TEXT NOT NULL,
    -- The market's New York date of the first session that knew it.
    valid_from          DATE NOT NULL,
    company_name        TEXT,
    exchange            TEXT,
    sector              TEXT,
    industry            TEXT,
    market_cap          DOUBLE PRECISION,
    float_shares        DOUBLE PRECISION,
    shares_outstanding  DOUBLE PRECISION,
    beta                DOUBLE PRECISION,
    is_etf              BOOLEAN,
    is_actively_trading BOOLEAN,
    security_type       TEXT,
    list_date           TEXT,
    PRIMARY KEY (symbol, valid_from)
);

-- To be called for written rows of ticker_metadata, in the same transaction: keeps those that are not as
-- they were on `day`. Can be repeated. Returns how many changed.
CREATE FUNCTION keep_metadata_history(day DATE, symbols TEXT[]) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE
    kept INTEGER;
BEGIN
    INSERT INTO ticker_metadata_history AS known
    SELECT now.symbol, day, now.company_name, now.exchange, now.sector, now.industry, now.market_cap, now.float_shares,
           now.shares_outstanding, now.beta, now.is_etf, now.is_actively_trading, now.security_type, now.list_date
    FROM ticker_metadata AS now
    LEFT JOIN LATERAL (
        SELECT * FROM ticker_metadata_history AS earlier
        WHERE earlier.symbol = now.symbol AND earlier.valid_from <= day ORDER BY earlier.valid_from DESC LIMIT 1
    ) AS before ON TRUE
    WHERE now.symbol = ANY (symbols) AND (
        before.symbol IS NULL
        OR (now.company_name, now.exchange, now.sector, now.industry, now.market_cap, now.float_shares,
            now.shares_outstanding, now.beta, now.is_etf, now.is_actively_trading, now.security_type, now.list_date)
        IS DISTINCT FROM
           (before.company_name, before.exchange, before.sector, before.industry, before.market_cap, before.float_shares,
            before.shares_outstanding, before.beta, before.is_etf, before.is_actively_trading, before.security_type,
            before.list_date))
    ON CONFLICT (symbol, valid_from) DO UPDATE SET
        company_name = excluded.company_name, exchange = excluded.exchange, sector = excluded.sector,
        industry = excluded.industry, market_cap = excluded.market_cap, float_shares = excluded.float_shares,
        shares_outstanding = excluded.shares_outstanding, beta = excluded.beta, is_etf = excluded.is_etf,
        is_actively_trading = excluded.is_actively_trading, security_type = excluded.security_type,
        list_date = excluded.list_date;
    GET DIAGNOSTICS kept = ROW_COUNT;
    RETURN kept;
END
$$;

-- Rows that are stored already are known since they were stored.
SELECT keep_metadata_history(day, array_agg(symbol))
FROM (SELECT symbol, (updated_at AT TIME ZONE 'America/New_York')::date AS day FROM ticker_metadata) AS stored
GROUP BY day;
