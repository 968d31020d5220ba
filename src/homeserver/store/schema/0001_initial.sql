-- The node's store, first version.
--
-- Integer ids (…_nid) stand for strings that repeat: users, rooms, events, state keys. One sequence, `stream_pos`, orders
-- everything that a sync can tell a client; it is given out by the single writer, so positions become visible in order.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;

-- Users --------------------------------------------------------------------------------------------------------------

CREATE TABLE users (
    user_nid INTEGER PRIMARY KEY,
    user_id  TEXT NOT NULL UNIQUE
) STRICT;

-- Local accounts.
CREATE TABLE accounts (
    user_nid      INTEGER PRIMARY KEY REFERENCES users,
    password_hash TEXT,                        -- argon2id, PHC string; NULL: no password sign-in
    admin         INTEGER NOT NULL DEFAULT 0,
    deactivated   INTEGER NOT NULL DEFAULT 0,
    created_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE profiles (
    user_nid INTEGER NOT NULL REFERENCES users,
    field    TEXT NOT NULL,
    value    TEXT NOT NULL,                    -- JSON
    PRIMARY KEY (user_nid, field)
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    user_nid     INTEGER NOT NULL REFERENCES accounts,
    device_id    TEXT NOT NULL,
    display_name TEXT,
    created_ms   INTEGER NOT NULL,
    last_seen_ms INTEGER,
    last_seen_ip TEXT,
    PRIMARY KEY (user_nid, device_id)
) STRICT, WITHOUT ROWID;

-- Tokens are kept as SHA-256 hashes: a stolen database signs nobody in.
-- A refresh leaves the old tokens valid until one of the new ones is used: `supersedes` marks a new one that was not.
CREATE TABLE access_tokens (
    token_hash BLOB PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER,
    supersedes BLOB                            -- refresh token that it was made with, until first used
) STRICT, WITHOUT ROWID;
CREATE INDEX access_tokens_by_device ON access_tokens (user_nid, device_id);

CREATE TABLE refresh_tokens (
    token_hash BLOB PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    supersedes BLOB                            -- as above
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_device ON refresh_tokens (user_nid, device_id);

CREATE TABLE registration_tokens (
    token        TEXT PRIMARY KEY,
    uses_allowed INTEGER,                      -- NULL: no limit
    uses         INTEGER NOT NULL DEFAULT 0,
    expires_ms   INTEGER,
    created_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE filters (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    filter_id INTEGER NOT NULL,
    json      TEXT NOT NULL,
    PRIMARY KEY (user_nid, filter_id)
) STRICT, WITHOUT ROWID;

-- room_nid 0 holds global account data. Content '{}' with deleted = 1 never occurs: deletion is not part of the API.
CREATE TABLE account_data (
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    room_nid   INTEGER NOT NULL,
    type       TEXT NOT NULL,
    content    TEXT NOT NULL,                  -- JSON
    stream_pos INTEGER NOT NULL,
    PRIMARY KEY (user_nid, room_nid, type)
) STRICT, WITHOUT ROWID;
CREATE INDEX account_data_by_pos ON account_data (user_nid, stream_pos);

CREATE TABLE pushers (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    app_id    TEXT NOT NULL,
    pushkey   TEXT NOT NULL,
    device_id TEXT,
    json      TEXT NOT NULL,
    PRIMARY KEY (user_nid, app_id, pushkey)
) STRICT, WITHOUT ROWID;

-- Idempotency of PUT …/{txnId}: the answer that the first request got. `scope` is the endpoint's own name.
CREATE TABLE transactions (
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    scope      TEXT NOT NULL,
    txn_id     TEXT NOT NULL,
    response   TEXT NOT NULL,                  -- event ID for sends; otherwise what the endpoint needs to repeat its answer
    created_ms INTEGER NOT NULL,
    PRIMARY KEY (user_nid, device_id, scope, txn_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX transactions_by_age ON transactions (created_ms);

-- End-to-end keys ------------------------------------------------------------------------------------------------------

CREATE TABLE device_keys (
    user_nid  INTEGER NOT NULL REFERENCES users,
    device_id TEXT NOT NULL,
    json      TEXT NOT NULL,
    PRIMARY KEY (user_nid, device_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE one_time_keys (
    seq       INTEGER PRIMARY KEY,             -- claimed in upload order
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    json      TEXT NOT NULL,
    UNIQUE (user_nid, device_id, algorithm, key_id)
) STRICT;

CREATE TABLE fallback_keys (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    device_id TEXT NOT NULL,
    algorithm TEXT NOT NULL,
    key_id    TEXT NOT NULL,
    json      TEXT NOT NULL,
    used      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (user_nid, device_id, algorithm)
) STRICT, WITHOUT ROWID;

CREATE TABLE cross_signing_keys (
    user_nid INTEGER NOT NULL REFERENCES users,
    usage    TEXT NOT NULL,                    -- master, self_signing, user_signing
    json     TEXT NOT NULL,                    -- as uploaded, with its own signatures
    PRIMARY KEY (user_nid, usage)
) STRICT, WITHOUT ROWID;

-- Signatures that users put on device keys and cross-signing keys after they were uploaded.
CREATE TABLE key_signatures (
    target_nid  INTEGER NOT NULL REFERENCES users,
    target_key  TEXT NOT NULL,                 -- device ID, or public key of a cross-signing key
    signer_nid  INTEGER NOT NULL REFERENCES users,
    signing_key TEXT NOT NULL,                 -- for instance ed25519:ABC
    signature   TEXT NOT NULL,
    PRIMARY KEY (target_nid, target_key, signer_nid, signing_key)
) STRICT, WITHOUT ROWID;

-- Whose keys changed when. Only the newest change of each user is kept.
CREATE TABLE device_list_changes (
    user_nid   INTEGER PRIMARY KEY REFERENCES users,
    stream_pos INTEGER NOT NULL UNIQUE
) STRICT;

-- Whom a user signed with the user-signing key: only the signer's own devices are told.
CREATE TABLE signature_changes (
    signer_nid INTEGER NOT NULL REFERENCES accounts,
    target_nid INTEGER NOT NULL REFERENCES users,
    stream_pos INTEGER NOT NULL,
    PRIMARY KEY (signer_nid, target_nid)
) STRICT, WITHOUT ROWID;

CREATE TABLE to_device (
    stream_pos INTEGER PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    sender     TEXT NOT NULL,
    type       TEXT NOT NULL,
    content    TEXT NOT NULL                   -- JSON
) STRICT;
CREATE INDEX to_device_by_device ON to_device (user_nid, device_id, stream_pos);

CREATE TABLE backup_versions (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    version   INTEGER NOT NULL,
    algorithm TEXT NOT NULL,
    auth_data TEXT NOT NULL,                   -- JSON
    etag      INTEGER NOT NULL DEFAULT 0,
    deleted   INTEGER NOT NULL DEFAULT 0,      -- a deleted version's number is never given out again
    PRIMARY KEY (user_nid, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE backup_sessions (
    user_nid            INTEGER NOT NULL,
    version             INTEGER NOT NULL,
    room_id             TEXT NOT NULL,
    session_id          TEXT NOT NULL,
    first_message_index INTEGER NOT NULL,
    forwarded_count     INTEGER NOT NULL,
    is_verified         INTEGER NOT NULL,
    session_data        TEXT NOT NULL,         -- JSON
    PRIMARY KEY (user_nid, version, room_id, session_id),
    FOREIGN KEY (user_nid, version) REFERENCES backup_versions
) STRICT, WITHOUT ROWID;

-- Rooms and events -----------------------------------------------------------------------------------------------------

CREATE TABLE rooms (
    room_nid      INTEGER PRIMARY KEY,
    room_id       TEXT NOT NULL UNIQUE,
    version       TEXT NOT NULL,
    published     INTEGER NOT NULL DEFAULT 0,  -- listed in the room directory
    current_group INTEGER,                     -- state group of the current state
    created_ms    INTEGER NOT NULL
) STRICT;

CREATE TABLE aliases (
    alias       TEXT PRIMARY KEY,
    room_nid    INTEGER NOT NULL REFERENCES rooms,
    creator_nid INTEGER NOT NULL REFERENCES users
) STRICT, WITHOUT ROWID;
CREATE INDEX aliases_by_room ON aliases (room_nid);

CREATE TABLE state_keys (
    statekey_nid INTEGER PRIMARY KEY,
    type         TEXT NOT NULL,
    state_key    TEXT NOT NULL,
    UNIQUE (type, state_key)
) STRICT;

CREATE TABLE events (
    event_nid        INTEGER PRIMARY KEY,
    event_id         TEXT NOT NULL UNIQUE,
    room_nid         INTEGER NOT NULL REFERENCES rooms,
    sender_nid       INTEGER NOT NULL REFERENCES users,
    type             TEXT NOT NULL,
    statekey_nid     INTEGER REFERENCES state_keys,
    depth            INTEGER NOT NULL,
    origin_server_ts INTEGER NOT NULL,
    stream_pos       INTEGER,                  -- unique; NULL: outlier; negative: backfilled
    state_before     INTEGER,                  -- state group before the event; NULL: outlier
    rejected         TEXT,                     -- why; NULL: accepted
    soft_failed      INTEGER NOT NULL DEFAULT 0,
    redacted_by      INTEGER REFERENCES events, -- the redaction that took effect; json is pruned by then
    txn_id           TEXT,                     -- client transaction, told back to the sending device only
    txn_device       TEXT,
    json             BLOB NOT NULL             -- the PDU; first byte: 0 plain, 1 zstd with the store's dictionary
) STRICT;
CREATE UNIQUE INDEX events_by_pos ON events (stream_pos);
CREATE INDEX events_by_room ON events (room_nid, stream_pos) WHERE stream_pos IS NOT NULL;
-- Newest event that moves a room up in a list sorted by activity; the query in sync_rooms.rs repeats the condition.
CREATE INDEX events_that_bump ON events (room_nid, stream_pos)
    WHERE type IN ('m.room.create', 'm.room.message', 'm.room.encrypted', 'm.sticker', 'm.call.invite', 'm.poll.start', 'org.matrix.msc3381.poll.start');
CREATE INDEX events_by_time ON events (room_nid, origin_server_ts) WHERE stream_pos IS NOT NULL;

CREATE TABLE event_edges (
    event_nid INTEGER NOT NULL REFERENCES events,
    prev_id   TEXT NOT NULL,                   -- may name an event that we do not have
    PRIMARY KEY (event_nid, prev_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_edges_by_prev ON event_edges (prev_id);

CREATE TABLE event_auth (
    event_nid INTEGER NOT NULL REFERENCES events,
    auth_nid  INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (event_nid, auth_nid)
) STRICT, WITHOUT ROWID;

CREATE TABLE forward_extremities (
    room_nid  INTEGER NOT NULL REFERENCES rooms,
    event_nid INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (room_nid, event_nid)
) STRICT, WITHOUT ROWID;

-- State as deltas: a group holds what differs from its parent. `chain` is the group's number in its line of succession; the
-- parent of number n is not n-1 but n without its lowest set bit, so that any state is read in at most log2(n) hops.
CREATE TABLE state_groups (
    group_id INTEGER PRIMARY KEY,
    room_nid INTEGER NOT NULL REFERENCES rooms,
    parent   INTEGER REFERENCES state_groups,
    chain    INTEGER NOT NULL
) STRICT;

CREATE TABLE state_group_entries (
    group_id     INTEGER NOT NULL REFERENCES state_groups,
    statekey_nid INTEGER NOT NULL REFERENCES state_keys,
    event_nid    INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (group_id, statekey_nid)
) STRICT, WITHOUT ROWID;

CREATE TABLE current_state (
    room_nid     INTEGER NOT NULL REFERENCES rooms,
    statekey_nid INTEGER NOT NULL REFERENCES state_keys,
    event_nid    INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (room_nid, statekey_nid)
) STRICT, WITHOUT ROWID;

-- How the current state changed, for sync: what a key pointed to from this position on (NULL: removed by resolution).
CREATE TABLE state_changes (
    room_nid       INTEGER NOT NULL REFERENCES rooms,
    stream_pos     INTEGER NOT NULL,
    statekey_nid   INTEGER NOT NULL REFERENCES state_keys,
    event_nid      INTEGER REFERENCES events,
    prev_event_nid INTEGER REFERENCES events,
    PRIMARY KEY (room_nid, stream_pos, statekey_nid)
) STRICT, WITHOUT ROWID;

-- Current membership of each user in each room, derived from current_state (or from an invite that came without the room).
CREATE TABLE members (
    room_nid     INTEGER NOT NULL REFERENCES rooms,
    user_nid     INTEGER NOT NULL REFERENCES users,
    membership   TEXT NOT NULL,                -- join, invite, knock, leave, ban
    event_nid    INTEGER NOT NULL REFERENCES events,
    stream_pos   INTEGER NOT NULL,             -- when this became so
    displayname  TEXT,
    avatar_url   TEXT,
    forgotten    INTEGER NOT NULL DEFAULT 0,
    invite_state TEXT,                         -- JSON array of stripped state, for invites and knocks
    PRIMARY KEY (room_nid, user_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_by_user ON members (user_nid, membership);
CREATE INDEX members_by_room ON members (room_nid, membership);

-- Every change of a local user's membership, for sync and for history visibility.
CREATE TABLE membership_changes (
    user_nid   INTEGER NOT NULL REFERENCES users,
    stream_pos INTEGER NOT NULL,
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    membership TEXT NOT NULL,
    event_nid  INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (user_nid, stream_pos)
) STRICT, WITHOUT ROWID;
CREATE INDEX membership_changes_by_room ON membership_changes (room_nid, user_nid, stream_pos);

CREATE TABLE relations (
    child_nid INTEGER PRIMARY KEY REFERENCES events,
    room_nid  INTEGER NOT NULL REFERENCES rooms,
    parent_id TEXT NOT NULL,                   -- may name an event that we do not have
    rel_type  TEXT NOT NULL,
    key       TEXT                             -- of an annotation
) STRICT;
CREATE INDEX relations_by_parent ON relations (parent_id, rel_type, child_nid);
CREATE INDEX relations_by_room ON relations (room_nid, rel_type);

-- Redactions whose target we do not have, or may not yet redact.
CREATE TABLE pending_redactions (
    redacts       TEXT NOT NULL,
    redaction_nid INTEGER NOT NULL REFERENCES events,
    PRIMARY KEY (redacts, redaction_nid)
) STRICT, WITHOUT ROWID;

-- thread_id '' is an unthreaded receipt.
CREATE TABLE receipts (
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    user_nid   INTEGER NOT NULL REFERENCES users,
    kind       TEXT NOT NULL,                  -- m.read, m.read.private
    thread_id  TEXT NOT NULL,
    event_id   TEXT NOT NULL,
    event_pos  INTEGER NOT NULL,               -- stream position of that event
    ts_ms      INTEGER NOT NULL,
    stream_pos INTEGER NOT NULL,
    PRIMARY KEY (room_nid, user_nid, kind, thread_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX receipts_by_pos ON receipts (stream_pos, room_nid);
CREATE INDEX receipts_by_user ON receipts (user_nid, stream_pos);

-- What push rules said of each event for each local user, kept until the user has read it.
CREATE TABLE push_actions (
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    stream_pos INTEGER NOT NULL,               -- of the event
    event_nid  INTEGER NOT NULL REFERENCES events,
    thread_id  TEXT NOT NULL,                  -- 'main', or the root of the event's thread
    notify     INTEGER NOT NULL,
    highlight  INTEGER NOT NULL,
    PRIMARY KEY (user_nid, room_nid, stream_pos)
) STRICT, WITHOUT ROWID;

-- Media: the bytes are files below media/ in the data directory, named by the media ID.
CREATE TABLE media (
    media_id     TEXT PRIMARY KEY,
    user_nid     INTEGER REFERENCES users,
    content_type TEXT,
    filename     TEXT,
    size_bytes   INTEGER,                      -- NULL: created, not yet uploaded
    created_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX media_pending ON media (user_nid, created_ms) WHERE size_bytes IS NULL;
