-- The queue of what came in, by the server that sent it: each server's events are worked on by themselves, and counted.

CREATE INDEX inbound_events_by_origin ON inbound_events (origin COLLATE NOCASE);
CREATE INDEX inbound_events_of_room ON inbound_events (room_id, origin, inbound_nid);
