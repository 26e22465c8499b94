-- Runs of the maintenance tasks, and the beginnings of the market's sessions.

CREATE SEQUENCE maintenance_fences;

CREATE TABLE maintenance_runs (
    id                  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    task                TEXT NOT NULL,
    -- The day whose data the run is about.
    trading_date        DATE NOT NULL,
    -- The time by the timetable that it stands for; none when it was started by hand.
    scheduled_at        TIMESTAMPTZ,
    state               TEXT NOT NULL DEFAULT 'RUNNING'
                        CHECK (state IN ('RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED')),
    attempt             INTEGER NOT NULL DEFAULT 1,
    started_at          TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    ended_at            TIMESTAMPTZ,
    -- Who has it, until when unless it says so again, and since which fence: whoever
    -- comes with an older one changes nothing any more.
    holder              TEXT NOT NULL,
    lease_until         TIMESTAMPTZ NOT NULL,
    fence               BIGINT NOT NULL DEFAULT nextval('maintenance_fences'),
    cancel_requested    BOOLEAN NOT NULL DEFAULT FALSE,
    step                TEXT NOT NULL DEFAULT '',
    done                BIGINT NOT NULL DEFAULT 0,
    total               BIGINT,
    counts              JSONB NOT NULL DEFAULT '{}',
    failed_count        BIGINT NOT NULL DEFAULT 0,
    -- The first of them, with the reason of each.
    failed_symbols      JSONB NOT NULL DEFAULT '{}',
    error               TEXT,
    -- Grows with every change: the run's place in its own stream.
    revision            INTEGER NOT NULL DEFAULT 1
);

-- A time of the timetable has one run, however many replicas there are ...
CREATE UNIQUE INDEX maintenance_runs_scheduled ON maintenance_runs (task, scheduled_at);
-- ... and a task runs once at a time.
CREATE UNIQUE INDEX maintenance_runs_running ON maintenance_runs (task) WHERE state = 'RUNNING';
CREATE INDEX maintenance_runs_started ON maintenance_runs (started_at DESC);

CREATE FUNCTION maintenance_runs_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('maintenance_runs', NEW.id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER maintenance_runs_notify AFTER INSERT OR UPDATE ON maintenance_runs
    FOR EACH ROW EXECUTE FUNCTION maintenance_runs_notify();

-- Every change of the market's session, once.
CREATE TABLE session_log (
    began_at        TIMESTAMPTZ PRIMARY KEY,
    session         TEXT NOT NULL CHECK (session IN ('PRE_MARKET', 'MARKET_OPEN', 'POST_MARKET', 'CLOSED')),
    trading_date    DATE NOT NULL,
    is_early_close  BOOLEAN NOT NULL
);
