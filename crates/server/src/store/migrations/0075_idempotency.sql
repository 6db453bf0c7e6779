-- Requests that come again with their Idempotency-Key, for a day.
CREATE TABLE idempotency_keys (
    -- SHA-256 over the bearer's secret and the key.
    id TEXT NOT NULL PRIMARY KEY,
    -- SHA-256 over method, path and body.
    request_hash TEXT NOT NULL,
    begun_at_ms BIGINT NOT NULL,
    -- Tells one try from the next.
    attempt TEXT NOT NULL,
    -- What was changed; written in the transaction of the change.
    made TEXT,
    -- The answer, sealed with a key that is made of the bearer's secret, which is not stored.
    status BIGINT,
    answer TEXT
);

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (begun_at_ms);
