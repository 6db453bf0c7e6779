-- When the newest certificate of a device ends, for lists and counts of those that end; and who was refused with one that had.
ALTER TABLE devices ADD COLUMN certificate_ends_at_ms BIGINT;
UPDATE devices SET certificate_ends_at_ms =
    (SELECT c.not_after_ms FROM certificates c WHERE c.serial = devices.certificate_serial);

CREATE INDEX devices_by_certificate_end ON devices (certificate_ends_at_ms, id, product, health)
    WHERE certificate_ends_at_ms IS NOT NULL;
-- Hardly any device is in it.
CREATE INDEX devices_refused ON devices (id, product, health, refused_at_ms) WHERE refused_at_ms IS NOT NULL;
