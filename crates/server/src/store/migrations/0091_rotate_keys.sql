-- Whether devices of a product renew their certificates with new keys (docs/decisions/0081).
ALTER TABLE products ADD COLUMN rotate_keys BIGINT NOT NULL DEFAULT 0;
