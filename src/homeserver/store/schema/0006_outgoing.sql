-- Other servers: who is in which room, and what waits to be sent to whom.

CREATE TABLE servers (
    server_nid       INTEGER PRIMARY KEY,
    name             TEXT NOT NULL UNIQUE,
    pending          INTEGER NOT NULL DEFAULT 0,  -- something waits, or a transaction is under way
    txn_id           TEXT,                        -- transaction under way: the same until it is answered
    txn_ms           INTEGER,                     -- its origin_server_ts
    failures         INTEGER NOT NULL DEFAULT 0,  -- in a row
    failing_since_ms INTEGER,
    retry_ms         INTEGER NOT NULL DEFAULT 0,  -- not before this
    away             INTEGER NOT NULL DEFAULT 0,  -- unreachable for long: of each room only the newest event waits
    last_error       TEXT
) STRICT;
CREATE INDEX servers_with_work ON servers (retry_ms) WHERE pending = 1;

-- Servers with joined members, ours among them, by room. The triggers below derive it from `members`, whoever writes that.
-- (No INSERT OR IGNORE in them: the conflict clause of the statement that fires a trigger would replace theirs.)
CREATE TABLE room_servers (
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    server_nid INTEGER NOT NULL REFERENCES servers,
    joined     INTEGER NOT NULL,                  -- members
    PRIMARY KEY (room_nid, server_nid)
) STRICT, WITHOUT ROWID;
CREATE INDEX room_servers_by_server ON room_servers (server_nid, room_nid);

INSERT INTO servers (name)
    SELECT DISTINCT substr(u.user_id, instr(u.user_id, ':') + 1) FROM members m JOIN users u USING (user_nid) WHERE m.membership = 'join';
INSERT INTO room_servers (room_nid, server_nid, joined)
    SELECT m.room_nid, s.server_nid, count(*) FROM members m JOIN users u USING (user_nid)
    JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1)
    WHERE m.membership = 'join' GROUP BY m.room_nid, s.server_nid;

CREATE TRIGGER members_added AFTER INSERT ON members WHEN NEW.membership = 'join' BEGIN
    INSERT INTO servers (name) SELECT substr(user_id, instr(user_id, ':') + 1) FROM users WHERE user_nid = NEW.user_nid
        AND NOT EXISTS (SELECT 1 FROM servers WHERE name = substr(user_id, instr(user_id, ':') + 1));
    INSERT INTO room_servers (room_nid, server_nid, joined)
        SELECT NEW.room_nid, s.server_nid, 1 FROM users u JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1)
        WHERE u.user_nid = NEW.user_nid
        ON CONFLICT DO UPDATE SET joined = joined + 1;
END;
CREATE TRIGGER members_came AFTER UPDATE OF membership ON members WHEN OLD.membership <> 'join' AND NEW.membership = 'join' BEGIN
    INSERT INTO servers (name) SELECT substr(user_id, instr(user_id, ':') + 1) FROM users WHERE user_nid = NEW.user_nid
        AND NOT EXISTS (SELECT 1 FROM servers WHERE name = substr(user_id, instr(user_id, ':') + 1));
    INSERT INTO room_servers (room_nid, server_nid, joined)
        SELECT NEW.room_nid, s.server_nid, 1 FROM users u JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1)
        WHERE u.user_nid = NEW.user_nid
        ON CONFLICT DO UPDATE SET joined = joined + 1;
END;
CREATE TRIGGER members_went AFTER UPDATE OF membership ON members WHEN OLD.membership = 'join' AND NEW.membership <> 'join' BEGIN
    UPDATE room_servers SET joined = joined - 1 WHERE room_nid = OLD.room_nid AND server_nid =
        (SELECT s.server_nid FROM users u JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1) WHERE u.user_nid = OLD.user_nid);
    DELETE FROM room_servers WHERE room_nid = OLD.room_nid AND joined <= 0 AND server_nid =
        (SELECT s.server_nid FROM users u JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1) WHERE u.user_nid = OLD.user_nid);
END;
CREATE TRIGGER members_removed AFTER DELETE ON members WHEN OLD.membership = 'join' BEGIN
    UPDATE room_servers SET joined = joined - 1 WHERE room_nid = OLD.room_nid AND server_nid =
        (SELECT s.server_nid FROM users u JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1) WHERE u.user_nid = OLD.user_nid);
    DELETE FROM room_servers WHERE room_nid = OLD.room_nid AND joined <= 0 AND server_nid =
        (SELECT s.server_nid FROM users u JOIN servers s ON s.name = substr(u.user_id, instr(u.user_id, ':') + 1) WHERE u.user_nid = OLD.user_nid);
END;

-- Events on their way to a server, in the order of the stream.
CREATE TABLE outgoing_pdus (
    server_nid INTEGER NOT NULL REFERENCES servers,
    stream_pos INTEGER NOT NULL,                  -- of the event
    event_nid  INTEGER NOT NULL REFERENCES events,
    room_nid   INTEGER NOT NULL REFERENCES rooms,
    in_txn     INTEGER NOT NULL DEFAULT 0,        -- part of the transaction under way
    PRIMARY KEY (server_nid, stream_pos)
) STRICT, WITHOUT ROWID;

CREATE TABLE outgoing_edus (
    edu_nid    INTEGER PRIMARY KEY AUTOINCREMENT,
    server_nid INTEGER NOT NULL REFERENCES servers,
    kind       TEXT NOT NULL,
    key        TEXT,                              -- a later EDU of the same kind and key takes its place
    content    TEXT NOT NULL,                     -- JSON
    expires_ms INTEGER,                           -- worth nothing afterwards
    in_txn     INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outgoing_edus_by_server ON outgoing_edus (server_nid, edu_nid);
