-- Artifacts that were uploaded, and for which product: what counts towards its quota.
CREATE TABLE artifacts (
    digest TEXT NOT NULL PRIMARY KEY,
    -- Empty when whoever uploaded it named none.
    product TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    uploaded_at_ms BIGINT NOT NULL
);

CREATE INDEX artifacts_by_product ON artifacts (product, size_bytes);

-- Of ELF files that came before this nobody knows the size; they do not count.
INSERT INTO artifacts (digest, product, size_bytes, uploaded_at_ms)
SELECT digest, MIN(product), MAX(size_bytes), MIN(created_at_ms) FROM releases GROUP BY digest;
