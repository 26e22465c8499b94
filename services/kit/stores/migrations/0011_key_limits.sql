-- Limits of a key beside its requests per second. NULL: the default, TRADEUL_KEY_STREAMS and TRADEUL_KEY_SCANS.

ALTER TABLE api_keys
    ADD COLUMN streams INTEGER CHECK (streams > 0),
    ADD COLUMN scans   INTEGER CHECK (scans >= 0);
