-- Deleting devices, products and artifacts; archiving releases.

-- Devices that were deleted: no certificate of before is ever taken for that of a device that was made again with the id.
CREATE TABLE deleted_devices (
    id TEXT NOT NULL PRIMARY KEY,
    deleted_at_ms BIGINT NOT NULL
);

-- Their certificates stay revoked until they end.
CREATE TABLE deleted_certificates (
    serial TEXT NOT NULL PRIMARY KEY,
    device TEXT NOT NULL,
    issuer TEXT,
    not_after_ms BIGINT NOT NULL,
    revoked_at_ms BIGINT NOT NULL
);

CREATE INDEX deleted_certificates_by_end ON deleted_certificates (not_after_ms);

-- The generation that a deleted product had: what an instance has in memory of it is not good for one that is made again.
CREATE TABLE deleted_products (
    name TEXT NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL
);

ALTER TABLE releases ADD COLUMN archived_at_ms BIGINT;
CREATE INDEX releases_by_elf ON releases (elf_digest);

-- Since when it is being deleted: nobody uploads or publishes it until its row is gone.
ALTER TABLE artifacts ADD COLUMN deleting_at_ms BIGINT;
CREATE INDEX artifacts_deleting ON artifacts (deleting_at_ms);
