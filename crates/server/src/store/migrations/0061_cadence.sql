-- Silence and health by the device's own cadence.

-- The usual interval between the starts at which the device is heard, and from how many intervals that is.
ALTER TABLE devices ADD COLUMN cadence_ms BIGINT;
ALTER TABLE devices ADD COLUMN cadence_intervals BIGINT NOT NULL DEFAULT 0;
-- Short runs of the application in a row.
ALTER TABLE devices ADD COLUMN short_runs BIGINT NOT NULL DEFAULT 0;
-- A run shorter than this shows nothing, and several in a row are a failure.
ALTER TABLE products ADD COLUMN min_run_s BIGINT NOT NULL DEFAULT 60;

CREATE INDEX devices_by_product_deadline ON devices (product, attempt_deadline_ms);
