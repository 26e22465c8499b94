-- sequencer_lease.synced names one connection of a standby. The leader numbers its changes of it, so that a statement that
-- arrives late, of a connection that was given up, changes nothing.
ALTER TABLE sequencer_lease ADD COLUMN sync_change BIGINT NOT NULL DEFAULT 0;
