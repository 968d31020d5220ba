-- Messages to devices are bounded for each server that they come from: nobody's flood drives out what others have sent.

ALTER TABLE to_device ADD COLUMN origin TEXT NOT NULL DEFAULT '';
UPDATE to_device SET origin = lower(substr(sender, instr(sender, ':') + 1));
CREATE INDEX to_device_by_origin ON to_device (user_nid, device_id, origin, stream_pos);

-- What waits, so that nobody has to count it.
CREATE TABLE to_device_waiting (
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    device_id TEXT NOT NULL,
    origin    TEXT NOT NULL,                   -- the host of the sender's server
    messages  INTEGER NOT NULL,
    bytes     INTEGER NOT NULL,                -- of their contents
    PRIMARY KEY (user_nid, device_id, origin)
) STRICT, WITHOUT ROWID;
INSERT INTO to_device_waiting (user_nid, device_id, origin, messages, bytes)
    SELECT user_nid, device_id, origin, count(*), sum(length(CAST(content AS BLOB))) FROM to_device GROUP BY user_nid, device_id, origin;

CREATE TRIGGER to_device_comes AFTER INSERT ON to_device BEGIN
    INSERT INTO to_device_waiting (user_nid, device_id, origin, messages, bytes)
    VALUES (NEW.user_nid, NEW.device_id, NEW.origin, 1, length(CAST(NEW.content AS BLOB)))
    ON CONFLICT DO UPDATE SET messages = messages + 1, bytes = bytes + excluded.bytes;
END;
CREATE TRIGGER to_device_goes AFTER DELETE ON to_device BEGIN
    UPDATE to_device_waiting SET messages = messages - 1, bytes = bytes - length(CAST(OLD.content AS BLOB))
    WHERE user_nid = OLD.user_nid AND device_id = OLD.device_id AND origin = OLD.origin;
    DELETE FROM to_device_waiting
    WHERE user_nid = OLD.user_nid AND device_id = OLD.device_id AND origin = OLD.origin AND messages <= 0;
END;
