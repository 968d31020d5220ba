-- Application services: what waits for them, what they made, what they list.

-- The service that made the account: its messages to devices go there.
ALTER TABLE accounts ADD COLUMN appservice_id TEXT;

CREATE TABLE appservices (
    as_id        TEXT PRIMARY KEY,
    txn_id       INTEGER NOT NULL,             -- of the transaction that is being sent, or of the next one
    body         TEXT,                         -- JSON, sent unchanged until it is taken; NULL: none is being sent
    receipts_pos INTEGER NOT NULL,             -- receipts up to here were looked at
    keys_pos     INTEGER NOT NULL,             -- changes of keys up to here were looked at
    failures     INTEGER NOT NULL DEFAULT 0,
    last_error   TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE appservice_events (
    as_id      TEXT NOT NULL,
    stream_pos INTEGER NOT NULL,
    event_nid  INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (as_id, stream_pos)
) STRICT, WITHOUT ROWID;

-- Directories of third-party networks.
CREATE TABLE appservice_rooms (
    as_id      TEXT NOT NULL,
    network_id TEXT NOT NULL,
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    PRIMARY KEY (as_id, network_id, room_nid)
) STRICT, WITHOUT ROWID;
