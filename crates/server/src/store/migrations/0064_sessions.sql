-- Sessions of API tokens: what a browser holds in place of the token.

CREATE TABLE sessions (
    -- SHA-256 of the secret.
    secret_hash TEXT NOT NULL PRIMARY KEY,
    -- Id of the API token that it was begun with; the session may what that may.
    token TEXT NOT NULL REFERENCES api_tokens (id),
    created_at_ms BIGINT NOT NULL,
    expires_at_ms BIGINT NOT NULL
);

CREATE INDEX sessions_by_token ON sessions (token, created_at_ms);
