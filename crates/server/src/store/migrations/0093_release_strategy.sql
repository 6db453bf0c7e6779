-- How the product's devices handed over when the release was published, which it was checked for: the layout may be another one
-- when it comes out of the archive.
ALTER TABLE releases ADD COLUMN strategy TEXT;
UPDATE releases SET strategy = (SELECT p.strategy FROM products p WHERE p.name = releases.product);
