-- Rollover of the CA, revocation list, approval of enrollments.

-- SHA-256 of the CA's certificate that issued it; NULL for certificates of before: the one CA that there was.
ALTER TABLE certificates ADD COLUMN issuer TEXT;
CREATE INDEX certificates_by_device ON certificates (device);

-- Digest of the trust anchors that the device said it has; NULL when it did not.
ALTER TABLE devices ADD COLUMN anchors TEXT;
-- Since when an enrollment waits for approval; `token_redeemed_key` is the key that waits.
ALTER TABLE devices ADD COLUMN enrollment_pending_at_ms BIGINT;
CREATE INDEX devices_by_revocation ON devices (revoked_at_ms);
