-- Which devices a rollout's counters count, and which devices wait for approval (docs/decisions/0069).

-- As the other indexes of lists: all that a list asks for stands in it. The state of an attempt changes with what is counted.
DROP INDEX devices_by_attempt;
CREATE INDEX devices_by_attempt ON devices (attempt_rollout, attempt_wave, attempt_state, id, attempt_epoch, product, channel,
    health, running_sequence, enrolled_at_ms);
CREATE INDEX devices_by_rollout ON devices (attempt_rollout, id, attempt_wave, attempt_state, attempt_epoch, product, channel,
    health, running_sequence, enrolled_at_ms);

-- Few wait at a time: hardly anybody else is in it.
CREATE INDEX devices_waiting ON devices (id, enrollment_pending_at_ms, approved_at_ms, revoked_at_ms)
    WHERE enrollment_pending_at_ms IS NOT NULL AND approved_at_ms IS NULL;
