-- Full-text search over what is readable here: encrypted events are not. The row ID is the event's; texts are kept in the events.
CREATE VIRTUAL TABLE search_index USING fts5 (
    body, name, topic,
    content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- Events from before the index are added in the background, from the newest down to the first.
CREATE TABLE search_backlog (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    next_nid INTEGER NOT NULL                  -- this one and those below it are still to be added
) STRICT;
INSERT INTO search_backlog SELECT 1, coalesce(max(event_nid), 0) FROM events;
