-- The release that a device must run, or a newer one, before it is offered this one.
ALTER TABLE releases ADD COLUMN requires BIGINT;

-- How many devices of open waves run less than the release requires, when they were counted last.
ALTER TABLE rollouts ADD COLUMN waiting BIGINT;
