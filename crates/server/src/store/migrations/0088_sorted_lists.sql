-- Lists of devices by when they were last seen and by when they were made (docs/decisions/0069). The hour changes at few
-- check-ins; the moment would at every one.
CREATE INDEX devices_by_hour ON devices (seen_hour, id, product, channel, health, running_sequence, enrolled_at_ms);
CREATE INDEX devices_by_age ON devices (created_at_ms, id, product, channel, health, running_sequence, enrolled_at_ms);

-- Who is pinned to a release that somebody archives. Hardly any device is in it.
CREATE INDEX devices_pinned ON devices (product, pinned_sequence, id) WHERE pinned_sequence IS NOT NULL;
