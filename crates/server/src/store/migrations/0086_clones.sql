-- Two boards with one identity (docs/decisions/0076): where the count of starts before the last one ended, how often in a row
-- the count went back to where the other one was, when that was last, and since when it is no chance.
ALTER TABLE devices ADD COLUMN other_starts BIGINT;
ALTER TABLE devices ADD COLUMN starts_returns BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN starts_returned_at_ms BIGINT;
ALTER TABLE devices ADD COLUMN clone_suspected_at_ms BIGINT;

-- Hardly any device is in it.
CREATE INDEX devices_with_clone ON devices (id, clone_suspected_at_ms) WHERE clone_suspected_at_ms IS NOT NULL;
