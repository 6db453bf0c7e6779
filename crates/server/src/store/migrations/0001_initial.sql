-- One schema for SQLite and Postgres: BIGINT for integers and for times (milliseconds since 1970, UTC), TEXT for
-- everything else. Digests, keys and serial numbers are lower-case hexadecimal, documents are JSON or base64.

CREATE TABLE admin_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE products (
    name TEXT NOT NULL PRIMARY KEY,
    chip TEXT NOT NULL,
    layout_name TEXT NOT NULL,
    layout_csv TEXT NOT NULL,
    strategy TEXT NOT NULL,
    slots TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL
);

CREATE TABLE publisher_keys (
    product TEXT NOT NULL REFERENCES products (name),
    key_hex TEXT NOT NULL,
    name TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (product, key_hex)
);

CREATE TABLE releases (
    product TEXT NOT NULL REFERENCES products (name),
    sequence BIGINT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    chip TEXT NOT NULL,
    app TEXT,
    min_slot_bytes BIGINT NOT NULL,
    notes TEXT NOT NULL,
    manifest_base64 TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    PRIMARY KEY (product, sequence)
);

CREATE INDEX releases_by_digest ON releases (digest);

CREATE TABLE devices (
    id TEXT NOT NULL PRIMARY KEY,
    product TEXT NOT NULL REFERENCES products (name),
    note TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    enrolled_at_ms BIGINT,
    revoked_at_ms BIGINT,
    revoked_reason TEXT,
    last_seen_at_ms BIGINT,

    -- Serial number of the certificate that is good, and of the one that stays good until this one is first used.
    certificate_serial TEXT,
    previous_serial TEXT,

    -- One-time enrollment token. `token_redeemed_key` is the SHA-256 of the public key (SubjectPublicKeyInfo) that
    -- redeemed it: that key alone may retry, until `token_void_at_ms`.
    token_hash TEXT NOT NULL,
    token_redeemed_key TEXT,
    token_void_at_ms BIGINT,

    -- As reported by the last check-in.
    chip_id BIGINT,
    running_digest TEXT,
    running_sequence BIGINT,
    running_version TEXT,
    slots TEXT,
    updater_version TEXT,
    reset_cause TEXT,
    starts BIGINT,
    strategy TEXT,
    free_heap_bytes BIGINT,
    critical_errors BIGINT,
    last_critical BIGINT,

    -- The last outcome that the device told of, and when the server first heard of it.
    outcome_sequence BIGINT,
    outcome_code BIGINT,
    outcome_at_ms BIGINT
);

CREATE INDEX devices_by_product ON devices (product, id);

CREATE TABLE certificates (
    serial TEXT NOT NULL PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    key_digest TEXT NOT NULL,
    not_before_ms BIGINT NOT NULL,
    not_after_ms BIGINT NOT NULL,
    issued_at_ms BIGINT NOT NULL,
    der_base64 TEXT NOT NULL
);

CREATE TABLE events (
    -- Sorts by time: made from the clock, a counter and a random part.
    id TEXT NOT NULL PRIMARY KEY,
    device TEXT NOT NULL REFERENCES devices (id),
    at_ms BIGINT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL
);

CREATE INDEX events_by_device ON events (device, id);
