-- The lowest revision of the product's chips: major * 100 + minor; NULL when nobody said. An image that asks for a higher
-- one is not published.
ALTER TABLE products ADD COLUMN chip_revision BIGINT;
