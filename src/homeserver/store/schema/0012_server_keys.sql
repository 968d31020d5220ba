-- Keys of other servers, and what of ours is past.

CREATE TABLE server_keys (
    server         TEXT    NOT NULL,
    key_id         TEXT    NOT NULL,
    public         BLOB    NOT NULL,
    -- Until when what it signs counts.
    valid_until_ms INTEGER NOT NULL,
    -- 1 for a key in use, 0 for one of the past.
    current        INTEGER NOT NULL,
    PRIMARY KEY (server, key_id)
) WITHOUT ROWID, STRICT;

-- The last answer of each server as it came, for those who ask this node as a notary.
CREATE TABLE server_key_answers (
    server         TEXT    NOT NULL PRIMARY KEY,
    fetched_ms     INTEGER NOT NULL,
    valid_until_ms INTEGER NOT NULL,
    answer         BLOB    NOT NULL
) WITHOUT ROWID, STRICT;

-- Signing keys that this node no longer uses: what they signed stays good for its time.
CREATE TABLE own_past_keys (
    key_id     TEXT    NOT NULL PRIMARY KEY,
    public     BLOB    NOT NULL,
    expired_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
