-- Pushers that send, notifications that are remembered, reports, delayed events.

-- Where a pusher stands. `sent_pos`: notifications up to here need nothing more. `badge`: the count that the device was last told.
ALTER TABLE pushers ADD COLUMN kind TEXT NOT NULL DEFAULT 'http';
ALTER TABLE pushers ADD COLUMN set_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN sent_pos INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN badge INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN retry_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pushers ADD COLUMN last_error TEXT;

-- What push rules said of events, newest kept: for GET /notifications and for pushers. `push_actions` counts what is unread.
CREATE TABLE notifications (
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    stream_pos INTEGER NOT NULL,               -- of the event
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    event_nid  INTEGER NOT NULL REFERENCES events,
    actions    TEXT NOT NULL,                  -- JSON, as the rule has them
    highlight  INTEGER NOT NULL,
    invite     INTEGER NOT NULL,               -- of an invite to this user, which is not counted
    ts_ms      INTEGER NOT NULL,               -- when it was made
    PRIMARY KEY (user_nid, stream_pos)
) STRICT, WITHOUT ROWID;

-- What users report to the owner. Identifiers as text: what is reported may be gone when the owner looks.
CREATE TABLE reports (
    report_id  INTEGER PRIMARY KEY,
    reporter   TEXT NOT NULL,
    room_id    TEXT,
    event_id   TEXT,
    user_id    TEXT,
    reason     TEXT NOT NULL,
    score      INTEGER,
    created_ms INTEGER NOT NULL
) STRICT;

-- Events that are sent later, unless somebody says otherwise (MSC4140).
CREATE TABLE delayed_events (
    delay_id   TEXT PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    type       TEXT NOT NULL,
    state_key  TEXT,
    content    TEXT NOT NULL,                  -- JSON
    txn_id     TEXT,
    delay_ms   INTEGER NOT NULL,
    since_ms   INTEGER NOT NULL,               -- when the delay began to run
    due_ms     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX delayed_events_by_time ON delayed_events (due_ms);
CREATE INDEX delayed_events_by_user ON delayed_events (user_nid, due_ms);
CREATE INDEX delayed_events_by_state ON delayed_events (room_nid, type, state_key) WHERE state_key IS NOT NULL;
