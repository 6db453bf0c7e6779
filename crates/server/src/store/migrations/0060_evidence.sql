-- Rollouts go on by evidence.

-- How many devices the wave takes that were seen of late; NULL until they were counted.
ALTER TABLE rollout_waves ADD COLUMN present BIGINT;

-- When they were counted last.
ALTER TABLE rollouts ADD COLUMN counted_at_ms BIGINT;
-- The rollout of a newer release that took its place; its state is `superseded` then.
ALTER TABLE rollouts ADD COLUMN superseded_by TEXT;
-- JSON list of the ids of rollouts whose place it took.
ALTER TABLE rollouts ADD COLUMN supersedes TEXT NOT NULL DEFAULT '[]';

-- Another new state is `open`: all waves are, and not all devices have the release.
UPDATE rollouts SET state = 'open' WHERE state = 'running'
    AND wave = (SELECT MAX(w.wave) FROM rollout_waves w WHERE w.rollout = rollouts.id);
