-- Invites that their receivers are not shown before the owner of the node has let them through.
CREATE TABLE held_invites (
    room_nid INTEGER NOT NULL REFERENCES rooms,
    user_nid INTEGER NOT NULL REFERENCES users,
    inviter  TEXT NOT NULL,
    reason   TEXT NOT NULL,
    held_ms  INTEGER NOT NULL,
    PRIMARY KEY (room_nid, user_nid)
) STRICT, WITHOUT ROWID;
