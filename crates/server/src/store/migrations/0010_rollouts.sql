-- The count of starts at the check-in that first told of an installed release; NULL when a report told of it.
ALTER TABLE devices ADD COLUMN attempt_starts BIGINT;

-- JSON of the counters at the last resume after a halt: what was counted before does not halt the rollout again.
ALTER TABLE rollout_waves ADD COLUMN baseline TEXT;
