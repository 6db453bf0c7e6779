-- What is too old is found by its time. Ids do not tell that: they never go back, and a clock may.
CREATE INDEX certificates_by_end ON certificates (not_after_ms, serial);
CREATE INDEX events_by_time ON events (at_ms, id);
CREATE INDEX audit_by_time ON audit (at_ms, id);
