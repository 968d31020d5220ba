-- The version of a room that is being joined: what comes of it meanwhile can be read, and waits.
ALTER TABLE remote_joins ADD COLUMN version TEXT;
