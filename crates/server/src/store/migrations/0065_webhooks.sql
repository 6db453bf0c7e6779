-- Where a team's own backend is told what happens. `secret` signs what is sent, so that it cannot be a hash.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    -- The one product that it is about; NULL for all.
    product TEXT REFERENCES products (name),
    -- JSON list of actions of the audit log.
    events TEXT NOT NULL,
    created_at_ms BIGINT NOT NULL,
    -- The last line of the audit log that was looked at for it.
    told_until TEXT NOT NULL
);

-- What is sent to a webhook, and what became of it.
CREATE TABLE webhook_deliveries (
    -- That of the line of the audit log, and the webhook's.
    id TEXT NOT NULL PRIMARY KEY,
    webhook TEXT NOT NULL REFERENCES webhooks (id),
    at_ms BIGINT NOT NULL,
    event TEXT NOT NULL,
    body TEXT NOT NULL,
    -- waiting, delivered, failed
    state TEXT NOT NULL,
    tries BIGINT NOT NULL,
    -- When it is tried next, or was last.
    try_at_ms BIGINT NOT NULL,
    -- Of the last answer.
    status BIGINT,
    error TEXT
);

CREATE INDEX webhook_deliveries_by_webhook ON webhook_deliveries (webhook, id);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (state, try_at_ms);
