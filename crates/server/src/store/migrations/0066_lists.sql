-- Lists and counts of a million devices, without reading them all (docs/decisions/0069).

-- The health of a device, when it may be another one because it was not heard, and the hour (since 1970) of its last
-- check-in. Kept up by the writes of the device listener and by a sweep.
ALTER TABLE devices ADD COLUMN health TEXT NOT NULL DEFAULT 'new';
ALTER TABLE devices ADD COLUMN look_at_ms BIGINT;
ALTER TABLE devices ADD COLUMN seen_hour BIGINT NOT NULL DEFAULT 0;

-- Silence is left to the sweep, which looks at all of them first.
UPDATE devices SET
    look_at_ms = CASE WHEN revoked_at_ms IS NULL THEN last_seen_at_ms END,
    seen_hour = COALESCE(last_seen_at_ms, 0) / 3600000,
    health = CASE WHEN revoked_at_ms IS NOT NULL THEN 'revoked'
        WHEN last_seen_at_ms IS NULL THEN 'new'
        WHEN attempt_state = 'silent' THEN 'silent'
        WHEN attempt_state = 'crashed' THEN 'crashing'
        WHEN attempt_state = 'failed' OR quarantined_at_ms IS NOT NULL THEN 'failing'
        WHEN attempt_state = 'unheard' THEN 'unheard'
        WHEN attempt_state IN ('offered', 'installed') THEN 'updating'
        ELSE 'ok' END;

-- Up to which id the devices of a product were looked at since its deadline changed; NULL: all of them.
ALTER TABLE products ADD COLUMN looked_until TEXT;

-- What a list of devices asks for stands in the index that it goes through; nothing of it changes at a check-in that tells
-- nothing new.
DROP INDEX devices_by_product;
CREATE INDEX devices_by_id ON devices (id, product, channel, health, running_sequence, enrolled_at_ms);
CREATE INDEX devices_by_product ON devices (product, id, channel, health, running_sequence, enrolled_at_ms);
CREATE INDEX devices_by_health ON devices (health, id, product, channel, running_sequence, enrolled_at_ms);
CREATE INDEX devices_by_look ON devices (look_at_ms);
-- An expression, so that no list takes it for its own.
CREATE INDEX devices_by_release ON devices (COALESCE(running_sequence, -1), product, health, seen_hour);

CREATE INDEX certificates_by_issue ON certificates (issued_at_ms);
CREATE INDEX audit_by_kind ON audit (kind, id);
CREATE INDEX rollouts_by_age ON rollouts (created_at_ms, id);
