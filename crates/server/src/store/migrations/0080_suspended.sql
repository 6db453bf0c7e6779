-- 1: the revocation may be taken back (RFC 5280 section 5.3.1, certificateHold). Of a device that is not revoked it says nothing.
ALTER TABLE devices ADD COLUMN suspended BIGINT NOT NULL DEFAULT 0;
