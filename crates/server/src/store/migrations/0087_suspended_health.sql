-- A suspended device is not a revoked one: lists and counts say so.
UPDATE devices SET health = 'suspended' WHERE health = 'revoked' AND suspended = 1;
