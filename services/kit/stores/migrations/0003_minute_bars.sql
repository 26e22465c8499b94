-- Whether a bar was made from trades, for want of the vendor's, which goes before it.
ALTER TABLE aggregates_1min ADD COLUMN is_made BOOLEAN NOT NULL DEFAULT FALSE;

-- Up to where in the sequencer's stream a writer has stored everything; written
-- together with what it stores.
CREATE TABLE stream_marks (
    name            TEXT PRIMARY KEY,
    epoch           BIGINT NOT NULL,
    sequence        BIGINT NOT NULL,
    -- Read again from here, minutes from whole_from on are seen as a whole.
    whole_sequence  BIGINT,
    whole_from      TIMESTAMPTZ,
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);
