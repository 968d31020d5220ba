-- State groups that are being written in pieces. What a crash leaves of one is removed at the next start.
CREATE TABLE unfinished_groups (
    group_id INTEGER PRIMARY KEY               -- in state_groups
) STRICT;
