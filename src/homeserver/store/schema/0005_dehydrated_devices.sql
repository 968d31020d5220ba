-- One for each user (MSC3814). The device itself, its keys and its messages are where those of other devices are.
CREATE TABLE dehydrated_devices (
    user_nid    INTEGER PRIMARY KEY REFERENCES accounts,
    device_id   TEXT NOT NULL,
    device_data TEXT NOT NULL                  -- JSON, encrypted by the client
) STRICT;

-- Pages that were previewed, so that a link is fetched once and not by every reader.
CREATE TABLE previews (
    url        TEXT PRIMARY KEY,
    json       TEXT NOT NULL,
    fetched_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX previews_by_age ON previews (fetched_ms);
