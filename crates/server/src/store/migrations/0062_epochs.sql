-- Counters by epoch: a resume after a halt begins a new one, and rollouts are judged by their newest.

ALTER TABLE rollouts ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;
-- The epoch in which the device was counted last.
ALTER TABLE devices ADD COLUMN attempt_epoch BIGINT NOT NULL DEFAULT 0;
-- 1: the release that failed here was offered again since.
ALTER TABLE devices ADD COLUMN failed_offered BIGINT NOT NULL DEFAULT 0;

-- How many devices of a wave took the release, and how it went; each device is counted in one epoch. Kept up to date so
-- that no decision counts devices.
CREATE TABLE rollout_counters (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    wave BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    -- Devices that were offered the release; each is in one of the states below or on its way to one.
    offered BIGINT NOT NULL,
    -- Of those: installed, and not seen since.
    installed BIGINT NOT NULL,
    -- Seen again with the release.
    healthy BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    crashed BIGINT NOT NULL,
    silent BIGINT NOT NULL,
    unheard BIGINT NOT NULL,
    PRIMARY KEY (rollout, wave, epoch)
);

INSERT INTO rollout_counters (rollout, wave, epoch, offered, installed, healthy, failed, crashed, silent, unheard)
SELECT rollout, wave, 0, offered, installed, healthy, failed, crashed, silent, 0 FROM rollout_waves;

-- What had been counted before a resume still counts no more.
UPDATE rollouts SET epoch = 1 WHERE id IN (SELECT rollout FROM rollout_waves WHERE baseline IS NOT NULL);

ALTER TABLE rollout_waves DROP COLUMN offered;
ALTER TABLE rollout_waves DROP COLUMN installed;
ALTER TABLE rollout_waves DROP COLUMN healthy;
ALTER TABLE rollout_waves DROP COLUMN failed;
ALTER TABLE rollout_waves DROP COLUMN crashed;
ALTER TABLE rollout_waves DROP COLUMN silent;
ALTER TABLE rollout_waves DROP COLUMN baseline;
