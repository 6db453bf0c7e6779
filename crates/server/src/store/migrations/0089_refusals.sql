-- When a certificate of the device that had ended was refused last, and why (docs/decisions/0080).
ALTER TABLE devices ADD COLUMN refused_at_ms BIGINT;
ALTER TABLE devices ADD COLUMN refused_cause TEXT;
