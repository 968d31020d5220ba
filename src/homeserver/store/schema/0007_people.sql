-- Users of other servers: their devices, their messages to ours, their files; and what other servers were told of our users.

-- Device lists of other servers' users that have been asked for. The keys themselves are in device_keys and cross_signing_keys.
CREATE TABLE remote_device_lists (
    user_nid  INTEGER PRIMARY KEY REFERENCES users,
    stream_id INTEGER,                         -- the newest change that is in it; NULL: their server did not say
    asked_pos INTEGER,                         -- where our stream was when it was asked for; NULL: has to be asked for again
    heard     INTEGER NOT NULL DEFAULT 0       -- changes heard of: an answer that one of them overtook is out of date
) STRICT;

-- What other servers were told of our users' devices, as digests. Whatever differs from it they are still to be told.
CREATE TABLE told_devices (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    device_id TEXT NOT NULL,                   -- empty: the cross-signing keys
    digest    BLOB NOT NULL,
    PRIMARY KEY (user_nid, device_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE told_streams (
    user_nid  INTEGER PRIMARY KEY REFERENCES accounts,
    stream_id INTEGER NOT NULL                 -- of the last m.device_list_update
) STRICT;

-- m.direct_to_device that arrived: their servers send again what they do not know to have arrived.
CREATE TABLE received_to_device (
    server      TEXT NOT NULL,
    message_id  TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (server, message_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX received_to_device_by_age ON received_to_device (received_ms);

-- Files of other servers that are kept for a while. The bytes are below media/ like our own, under names of ours.
CREATE TABLE remote_media (
    server       TEXT NOT NULL,
    media_id     TEXT NOT NULL,
    variant      TEXT NOT NULL,                -- empty: the file; otherwise the thumbnail's size and method
    file         TEXT NOT NULL UNIQUE,         -- its name with us
    content_type TEXT,
    filename     TEXT,
    size_bytes   INTEGER NOT NULL,
    used_ms      INTEGER NOT NULL,
    PRIMARY KEY (server, media_id, variant)
) STRICT, WITHOUT ROWID;
CREATE INDEX remote_media_by_use ON remote_media (used_ms);
