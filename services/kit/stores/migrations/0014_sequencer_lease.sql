-- Which of several sequencers leads. One row, renewed by the leader by this server's clock; the fencing
-- number grows by one with each new leader, and begins high, so that it does not go back with a new database.
CREATE TABLE sequencer_lease (
    name            TEXT PRIMARY KEY,
    -- The leader's host and data directory.
    holder          TEXT NOT NULL,
    fencing_number  BIGINT NOT NULL,
    expires_at      TIMESTAMPTZ NOT NULL,
    -- The last epoch of the stream under this lease or an earlier one.
    epoch           BIGINT NOT NULL DEFAULT 0,
    -- The standby without whom no frame has been shown; NULL when there is none.
    synced          TEXT
);
