-- Alert rules of one's own, and switches of shipped rules.

CREATE TABLE alert_rules (
    name        TEXT PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_]{0,62}$'),
    enabled     BOOLEAN NOT NULL DEFAULT TRUE,
    -- The key that created the rule; empty where keys are not required.
    owner       TEXT NOT NULL DEFAULT '',
    -- Grows with every change.
    version     INTEGER NOT NULL DEFAULT 1 CHECK (version > 0),
    -- NULL for a shipped rule: the row only switches it.
    definition  JSONB CHECK (jsonb_typeof(definition) = 'object'),
    updated_at  TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE FUNCTION alert_rules_touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TRIGGER alert_rules_touch BEFORE UPDATE ON alert_rules
    FOR EACH ROW EXECUTE FUNCTION alert_rules_touch();

-- At each notification the followers read all rules again.
CREATE FUNCTION alert_rules_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('alert_rules', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER alert_rules_notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON alert_rules
    FOR EACH STATEMENT EXECUTE FUNCTION alert_rules_notify();
