-- True for a bar made from trades because the vendor's is missing; the vendor's replaces it.
ALTER TABLE aggregates_1min ADD COLUMN is_made BOOLEAN NOT NULL DEFAULT FALSE;

-- The position in the sequencer's stream up to which a writer has stored everything;
-- written in the same transaction.
CREATE TABLE stream_marks (
    name            TEXT PRIMARY KEY,
    epoch           BIGINT NOT NULL,
    sequence        BIGINT NOT NULL,
    -- Read again from here, minutes from whole_from on are seen as a whole.
    whole_sequence  BIGINT,
    whole_from      TIMESTAMPTZ,
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);
