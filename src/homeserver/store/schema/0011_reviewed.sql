-- What a review of the node asked for: fair pushing, pictures of previews that do not pile up, indexes for what is looked for.

-- When a pusher was served last: those that waited longest go first.
ALTER TABLE pushers ADD COLUMN served_ms INTEGER NOT NULL DEFAULT 0;
CREATE INDEX pushers_by_retry ON pushers (retry_ms) WHERE retry_ms > 0;
-- A device that has changed hands: its pushers under other accounts.
CREATE INDEX pushers_by_device ON pushers (app_id, pushkey);

CREATE INDEX oauth_codes_by_client ON oauth_codes (client_id);
CREATE INDEX oauth_codes_by_user ON oauth_codes (user_nid);

-- The picture of a preview: the same one is stored once, and goes when no preview shows it.
ALTER TABLE previews ADD COLUMN image TEXT;           -- media ID
ALTER TABLE previews ADD COLUMN image_hash BLOB;      -- SHA-256; NULL: none, or from before this was noted
UPDATE previews SET image = substr(json ->> '$."og:image"', instr(substr(json ->> '$."og:image"', 7), '/') + 7)
    WHERE json ->> '$."og:image"' LIKE 'mxc://%/%';
CREATE INDEX previews_by_image ON previews (image) WHERE image IS NOT NULL;
CREATE INDEX previews_by_image_hash ON previews (image_hash) WHERE image_hash IS NOT NULL;
