-- What has ended is found by when it did.
CREATE INDEX certificates_by_end ON certificates (not_after_ms, serial);
