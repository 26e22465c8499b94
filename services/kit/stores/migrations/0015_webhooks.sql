-- Webhooks: where alerts are sent, how far each has come, and each attempt.

CREATE TABLE webhooks (
    id              TEXT PRIMARY KEY CHECK (id ~ '^wh_[a-z2-7]{16}$'),
    enabled         BOOLEAN NOT NULL DEFAULT TRUE,
    -- Why the service has switched it off.
    disabled_reason TEXT NOT NULL DEFAULT '',
    -- The key that created it; empty where keys are not required.
    owner           TEXT NOT NULL DEFAULT '',
    -- Grows with every change.
    version         INTEGER NOT NULL DEFAULT 1 CHECK (version > 0),
    url             TEXT NOT NULL,
    -- None is all of them.
    rules           TEXT[] NOT NULL DEFAULT '{}',
    filter          TEXT NOT NULL DEFAULT '',
    min_quality     DOUBLE PRECISION,
    shape           TEXT NOT NULL DEFAULT 'JSON' CHECK (shape IN ('JSON', 'DISCORD', 'SLACK')),
    -- Keys of the signature, which cannot be hashes: the service signs with them. The former one signs, too, until its
    -- time is over.
    secret          BYTEA NOT NULL CHECK (octet_length(secret) BETWEEN 24 AND 64),
    former_secret   BYTEA CHECK (octet_length(former_secret) BETWEEN 24 AND 64),
    former_until    TIMESTAMPTZ,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE FUNCTION webhooks_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER webhooks_touch BEFORE UPDATE ON webhooks FOR EACH ROW EXECUTE FUNCTION webhooks_touch();

-- How far each has come: apart, since it changes with every delivery.
CREATE TABLE webhook_progress (
    webhook_id      TEXT PRIMARY KEY REFERENCES webhooks ON DELETE CASCADE,
    -- Of the last alert that was delivered or not selected; NULL where delivery begins with new ones.
    epoch           BIGINT,
    sequence        BIGINT,
    -- Of the message that waits: since when and how often it was refused, and when it is sent again.
    failing_since   TIMESTAMPTZ,
    failures        INTEGER NOT NULL DEFAULT 0,
    next_attempt_at TIMESTAMPTZ,
    problem         TEXT NOT NULL DEFAULT '',
    -- Grows when delivery is told to begin with new alerts: what was on its way then moves nothing any more.
    begun           INTEGER NOT NULL DEFAULT 1
);

CREATE FUNCTION webhooks_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_progress (webhook_id) VALUES (NEW.id);
    RETURN NULL;
END
$$;

CREATE TRIGGER webhooks_begin AFTER INSERT ON webhooks FOR EACH ROW EXECUTE FUNCTION webhooks_begin();

-- At each notification the deliverer reads all webhooks again.
CREATE FUNCTION webhooks_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('webhooks', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER webhooks_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON webhooks
    FOR EACH STATEMENT EXECUTE FUNCTION webhooks_notify();

-- Dated by this clock, not by the market's; housekeeping drops old ones.
CREATE TABLE webhook_attempts (
    id              BIGINT GENERATED ALWAYS AS IDENTITY,
    webhook_id      TEXT NOT NULL,
    -- The message's webhook-id.
    message_id      TEXT NOT NULL,
    time            TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    attempt         INTEGER NOT NULL CHECK (attempt > 0),
    outcome         TEXT NOT NULL CHECK (outcome IN ('DELIVERED', 'RETRIED', 'GIVEN_UP')),
    -- Of the answer; NULL if there was none.
    status          INTEGER,
    duration_ms     INTEGER NOT NULL,
    error           TEXT NOT NULL DEFAULT '',
    next_attempt_at TIMESTAMPTZ,
    alerts          INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, id)
);

CREATE INDEX webhook_attempts_time ON webhook_attempts (time);

-- Alerts after a position, for webhooks that are further behind than scanners hold.
CREATE INDEX alert_events_position ON alert_events (epoch, sequence);
