-- Joins through other servers that are under way: a restart goes on with them.
CREATE TABLE remote_joins (
    room_id    TEXT NOT NULL,
    user_id    TEXT NOT NULL,
    via        TEXT NOT NULL,                     -- JSON array of server names
    reason     TEXT,
    started_ms INTEGER NOT NULL,
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;

-- Membership events of rooms that are not here. They were stored before what authorises them, so they are stored anew when the
-- room comes: integer ids go up along every auth edge.
CREATE TABLE outside_events (
    event_nid INTEGER PRIMARY KEY REFERENCES events,
    room_nid  INTEGER NOT NULL REFERENCES rooms,
    event_id  TEXT NOT NULL
) STRICT;
CREATE INDEX outside_events_by_room ON outside_events (room_nid);
