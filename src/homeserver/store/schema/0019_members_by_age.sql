-- Members in the order in which they came, which is how a room without a name is called after them.
DROP INDEX members_by_room;
CREATE INDEX members_by_room ON members (room_nid, membership, stream_pos);
