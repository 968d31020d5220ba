-- Events of other servers: forks, resolved state, history from before, and the queue of what came in.

-- A state can lose a key when forks are resolved: such an entry names no event.
CREATE TABLE state_group_entries_new (
    group_id     INTEGER NOT NULL REFERENCES state_groups,
    statekey_nid INTEGER NOT NULL REFERENCES state_keys,
    event_nid    INTEGER REFERENCES events,    -- NULL: the key is not set any more
    PRIMARY KEY (group_id, statekey_nid)
) STRICT, WITHOUT ROWID;
INSERT INTO state_group_entries_new SELECT group_id, statekey_nid, event_nid FROM state_group_entries;
DROP TABLE state_group_entries;
ALTER TABLE state_group_entries_new RENAME TO state_group_entries;

-- State group after a state event. NULL: the event changed no state (a message, a rejected event), the one before it holds on.
ALTER TABLE events ADD COLUMN state_after INTEGER;
-- The server that first sent us the event; NULL: our own.
ALTER TABLE events ADD COLUMN came_from TEXT;

-- Auth edges the other way round, for state events only: messages authorise nothing. An event is stored after all events that
-- authorise it, so integer ids go up along every such edge.
CREATE TABLE auth_edges (
    auth_nid  INTEGER NOT NULL REFERENCES events,
    event_nid INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (auth_nid, event_nid)
) STRICT, WITHOUT ROWID;
INSERT INTO auth_edges (auth_nid, event_nid)
    SELECT a.auth_nid, a.event_nid FROM event_auth a JOIN events e USING (event_nid) WHERE e.statekey_nid IS NOT NULL;

-- Where our knowledge of a room's history ends: events that have a place in the room and follow one that has none.
CREATE TABLE backward_edges (
    room_nid  INTEGER NOT NULL REFERENCES rooms,
    prev_id   TEXT NOT NULL,
    event_nid INTEGER NOT NULL REFERENCES events, -- the one that follows
    PRIMARY KEY (prev_id, event_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX backward_edges_by_room ON backward_edges (room_nid);

-- What resolving several states gave: the states' groups in order, separated by spaces, and the group of the outcome.
CREATE TABLE state_merges (
    merge_nid INTEGER PRIMARY KEY,
    groups    TEXT NOT NULL UNIQUE,
    group_id  INTEGER NOT NULL REFERENCES state_groups
) STRICT;

-- Events that other servers sent and that were acknowledged, but not yet worked on.
CREATE TABLE inbound_events (
    inbound_nid INTEGER PRIMARY KEY,
    room_id     TEXT NOT NULL,
    event_id    TEXT NOT NULL,
    origin      TEXT NOT NULL,
    json        BLOB NOT NULL,                 -- packed as in `events`
    received_ms INTEGER NOT NULL,
    attempts    INTEGER NOT NULL DEFAULT 0,    -- how often it has been worked on
    retry_ms    INTEGER NOT NULL DEFAULT 0,    -- not before
    UNIQUE (room_id, event_id, origin)         -- whoever relays a spoiled copy keeps nobody else's out
) STRICT;

-- Answers to transactions of other servers, for those who ask again.
CREATE TABLE inbound_transactions (
    origin      TEXT NOT NULL,
    txn_id      TEXT NOT NULL,
    response    TEXT NOT NULL,
    received_ms INTEGER NOT NULL,
    PRIMARY KEY (origin, txn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbound_transactions_by_age ON inbound_transactions (received_ms);
