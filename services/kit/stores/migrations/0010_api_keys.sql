-- Keys to the gateway; `tradeul keys` writes them. A revoked key keeps its row, so that its name in logs and metrics
-- never means another key.

CREATE TABLE api_keys (
    name           TEXT PRIMARY KEY CHECK (name ~ '^[a-z0-9][a-z0-9_.-]{0,62}$'),
    -- SHA-256 of the key, which is not stored. A key is 256 random bits: there is nothing to guess, so that neither salt
    -- nor a slow hash would add anything.
    hash           BYTEA NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    access_right   TEXT NOT NULL CHECK (access_right IN ('read', 'admin')),
    -- NULL: the default of the access service.
    requests_per_s INTEGER CHECK (requests_per_s > 0),
    created_at     TIMESTAMPTZ NOT NULL DEFAULT now(),
    revoked_at     TIMESTAMPTZ
);

-- Whoever follows the keys reads all of them anew at each notification.
CREATE FUNCTION api_keys_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('api_keys', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER api_keys_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION api_keys_notify();
