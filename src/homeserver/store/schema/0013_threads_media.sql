-- Threads that users follow (MSC4306), and what owners do about files.

CREATE TABLE thread_subscriptions (
    user_nid         INTEGER NOT NULL REFERENCES accounts,
    room_nid         INTEGER NOT NULL REFERENCES rooms,
    root_id          TEXT NOT NULL,
    subscribed       INTEGER NOT NULL,
    automatic        INTEGER NOT NULL,             -- a client decided, not the user
    unsubscribed_pos INTEGER,                      -- where in the stream the user turned away last
    stream_pos       INTEGER NOT NULL,
    PRIMARY KEY (user_nid, room_nid, root_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_subscriptions_by_pos ON thread_subscriptions (user_nid, stream_pos);

-- When somebody last got the file; NULL: nobody has yet.
ALTER TABLE media ADD COLUMN used_ms INTEGER;
CREATE INDEX media_by_owner ON media (user_nid, size_bytes);

-- Files that nobody is given, ours and those of other servers.
CREATE TABLE quarantined_media (
    server   TEXT NOT NULL,
    media_id TEXT NOT NULL,
    by_user  TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    PRIMARY KEY (server, media_id)
) STRICT, WITHOUT ROWID;
