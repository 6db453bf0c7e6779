-- What a device can make the database grow by in a day.

-- The day that its events are counted for (days since 1970), how many it caused by then, and the id of the event that
-- stands for those past the bound.
ALTER TABLE devices ADD COLUMN events_day BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN events_today BIGINT NOT NULL DEFAULT 0;
ALTER TABLE devices ADD COLUMN events_left_out TEXT;
