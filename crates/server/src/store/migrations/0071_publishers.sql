-- Ids of the publisher keys that the device said it trusts: hexadecimal, ascending, with spaces in between. NULL when it did
-- not say so.
ALTER TABLE devices ADD COLUMN publishers TEXT;

-- Publishing counts by it, up to a bound.
CREATE INDEX devices_by_publishers ON devices (product, publishers, revoked_at_ms);
