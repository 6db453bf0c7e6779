-- Roles, audit, channels, rollouts. Same rules as 0001: BIGINT for integers, booleans (0, 1) and times, TEXT for the rest.

CREATE TABLE api_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    -- viewer, operator, publisher, admin
    role TEXT NOT NULL,
    -- The one product that it is for; NULL for all.
    product TEXT REFERENCES products (name),
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT,
    revoked_at_ms BIGINT
);

INSERT INTO api_tokens (id, token_hash, name, role, created_at_ms)
SELECT 'tok-' || SUBSTR(token_hash, 1, 12), token_hash, name, 'admin', created_at_ms FROM admin_tokens;

DROP TABLE admin_tokens;

-- Append-only: triggers of the dialect refuse UPDATE and DELETE.
CREATE TABLE audit (
    -- Sorts by time, as ids of events do.
    id TEXT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    -- Id and name of the API token; `server` for what the server does by itself.
    actor TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    -- Such as `rollout.abort`.
    action TEXT NOT NULL,
    -- What was changed: `device` and its id, for instance.
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    product TEXT,
    -- JSON of what was changed; NULL for what was not there.
    before_json TEXT,
    after_json TEXT
);

CREATE INDEX audit_by_subject ON audit (kind, subject, id);
CREATE INDEX audit_by_actor ON audit (actor, id);
CREATE INDEX audit_by_product ON audit (product, id);

ALTER TABLE products ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
-- Grows with every change to what devices of the product may be told to run: releases, rollouts, settings. What an
-- instance of the server has in memory of a product is good for one generation.
ALTER TABLE products ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;
-- A device that took a release and is not seen again for this long is silent.
ALTER TABLE products ADD COLUMN silence_deadline_s BIGINT NOT NULL DEFAULT 604800;
-- So many failures of one release, and it is not offered to that device until an operator clears it.
ALTER TABLE products ADD COLUMN quarantine_after BIGINT NOT NULL DEFAULT 3;
-- 1: an enrollment waits for an operator's approval.
ALTER TABLE products ADD COLUMN enrollment_approval BIGINT NOT NULL DEFAULT 0;
-- JSON of the rollout plan that a published release starts with; NULL: all devices at once.
ALTER TABLE products ADD COLUMN default_plan TEXT;

ALTER TABLE publisher_keys ADD COLUMN revoked_at_ms BIGINT;

CREATE TABLE channels (
    product TEXT NOT NULL REFERENCES products (name),
    name TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (product, name)
);

INSERT INTO channels (product, name, created_at_ms) SELECT name, 'stable', created_at_ms FROM products;
INSERT INTO channels (product, name, created_at_ms) SELECT name, 'beta', created_at_ms FROM products;

ALTER TABLE releases ADD COLUMN channel TEXT NOT NULL DEFAULT 'stable';
-- JSON list of the sequence numbers that the signed manifest allows to return to.
ALTER TABLE releases ADD COLUMN revert_to TEXT NOT NULL DEFAULT '[]';
-- JSON list of texts: what the publisher was warned of.
ALTER TABLE releases ADD COLUMN warnings TEXT NOT NULL DEFAULT '[]';
-- SHA-256 of the ELF file, which lies among the artifacts.
ALTER TABLE releases ADD COLUMN elf_digest TEXT;

-- A staged plan that brings a release to the devices of a channel. No row per device.
CREATE TABLE rollouts (
    id TEXT NOT NULL PRIMARY KEY,
    product TEXT NOT NULL,
    channel TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    -- draft, running, awaiting-approval, paused, halted, aborted, completed
    state TEXT NOT NULL,
    -- Index of the wave that is open, from 0.
    wave BIGINT NOT NULL,
    -- JSON of the plan.
    plan TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    started_at_ms BIGINT,
    wave_started_at_ms BIGINT,
    finished_at_ms BIGINT,
    -- JSON: why it halted, and which devices did it.
    halt TEXT,
    revision BIGINT NOT NULL DEFAULT 1,
    FOREIGN KEY (product, sequence) REFERENCES releases (product, sequence)
);

CREATE INDEX rollouts_by_product ON rollouts (product, id);
CREATE INDEX rollouts_by_state ON rollouts (state);

-- How many devices of a wave took the release, and how it went. Kept up to date so that no decision counts devices.
CREATE TABLE rollout_waves (
    rollout TEXT NOT NULL REFERENCES rollouts (id),
    wave BIGINT NOT NULL,
    started_at_ms BIGINT,
    -- Devices that were offered the release; each is in one of the states below or on its way to one.
    offered BIGINT NOT NULL DEFAULT 0,
    -- Of those: installed, and not seen since.
    installed BIGINT NOT NULL DEFAULT 0,
    -- Seen again with the release.
    healthy BIGINT NOT NULL DEFAULT 0,
    failed BIGINT NOT NULL DEFAULT 0,
    crashed BIGINT NOT NULL DEFAULT 0,
    silent BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (rollout, wave)
);

-- Releases of before were offered to every device at once: that is a rollout with one wave, which is completed.
INSERT INTO rollouts (id, product, channel, sequence, state, wave, plan, created_at_ms, started_at_ms,
    wave_started_at_ms, finished_at_ms)
SELECT 'ro-' || product || '-' || sequence, product, 'stable', sequence, 'completed', 0,
    '{"waves":[{"select":{"percent":100}}]}', created_at_ms, created_at_ms, created_at_ms, created_at_ms
FROM releases;

INSERT INTO rollout_waves (rollout, wave, started_at_ms) SELECT id, 0, started_at_ms FROM rollouts;

ALTER TABLE devices ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
ALTER TABLE devices ADD COLUMN channel TEXT NOT NULL DEFAULT 'stable';
-- JSON list, sorted; `device_tags` has the same for filters.
ALTER TABLE devices ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
-- The release that this device is to run whatever the rollouts say.
ALTER TABLE devices ADD COLUMN pinned_sequence BIGINT;
-- When an operator approved the enrollment, where the product asks for that.
ALTER TABLE devices ADD COLUMN approved_at_ms BIGINT;

-- The rollout whose release the device was offered last, and how that goes: offered, installed, healthy, failed, crashed,
-- silent. Past the deadline an offered or installed one is silent.
ALTER TABLE devices ADD COLUMN attempt_rollout TEXT;
ALTER TABLE devices ADD COLUMN attempt_wave BIGINT;
ALTER TABLE devices ADD COLUMN attempt_sequence BIGINT;
ALTER TABLE devices ADD COLUMN attempt_state TEXT;
ALTER TABLE devices ADD COLUMN attempt_at_ms BIGINT;
ALTER TABLE devices ADD COLUMN attempt_deadline_ms BIGINT;

-- The release that failed here, how often, when last, and when that became too often.
ALTER TABLE devices ADD COLUMN failed_sequence BIGINT;
ALTER TABLE devices ADD COLUMN failed_count BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN failed_at_ms BIGINT;
ALTER TABLE devices ADD COLUMN quarantined_at_ms BIGINT;

CREATE INDEX devices_by_attempt ON devices (attempt_rollout, attempt_state);
CREATE INDEX devices_by_deadline ON devices (attempt_deadline_ms);

CREATE TABLE device_tags (
    tag TEXT NOT NULL,
    device TEXT NOT NULL REFERENCES devices (id),
    PRIMARY KEY (tag, device)
);

CREATE INDEX device_tags_by_device ON device_tags (device);

-- What the fleet looked like: devices of a product by what they run and by health, sampled.
CREATE TABLE fleet_samples (
    at_ms BIGINT NOT NULL,
    product TEXT NOT NULL,
    -- Sequence number that runs; -1 for none that is known.
    sequence BIGINT NOT NULL,
    -- new, ok, updating, failing, crashing, silent, revoked
    health TEXT NOT NULL,
    devices BIGINT NOT NULL,
    PRIMARY KEY (at_ms, product, sequence, health)
);
