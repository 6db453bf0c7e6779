-- A wave by share has at least one device: this one, when nobody else is in it.
ALTER TABLE rollout_waves ADD COLUMN stand_in TEXT;
