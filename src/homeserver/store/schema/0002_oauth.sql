-- Signing in with OAuth 2.0, OpenID tokens, and what an owner may do to an account.

-- Reversible, unlike closing an account: a locked one can do nothing, a suspended one can only look.
ALTER TABLE accounts ADD COLUMN locked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN suspended INTEGER NOT NULL DEFAULT 0;
-- Where in the stream the user asked for their messages to be erased: who joins later is served them redacted.
ALTER TABLE accounts ADD COLUMN erased_pos INTEGER;

-- Clients that registered themselves (RFC 7591). The same metadata is the same client.
CREATE TABLE oauth_clients (
    client_id     TEXT PRIMARY KEY,
    metadata_hash BLOB NOT NULL UNIQUE,        -- SHA-256 of metadata
    metadata      TEXT NOT NULL,               -- JSON, as far as we understood it
    used_ms       INTEGER NOT NULL             -- registered or signed in with last
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_clients_by_use ON oauth_clients (used_ms);

-- Devices whose tokens were got by OAuth. A device has no row here that signed in by the legacy API.
CREATE TABLE oauth_grants (
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    client_id  TEXT NOT NULL REFERENCES oauth_clients,
    scope      TEXT NOT NULL,
    code_hash  BLOB,                           -- the code that it was made with; NULL: by a device code
    granted_ms INTEGER NOT NULL,
    PRIMARY KEY (user_nid, device_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_grants_by_client ON oauth_grants (client_id);

-- Authorisation codes, as SHA-256. A used one stays a while, so that a second use is noticed.
CREATE TABLE oauth_codes (
    code_hash    BLOB PRIMARY KEY,
    client_id    TEXT NOT NULL REFERENCES oauth_clients,
    user_nid     INTEGER NOT NULL REFERENCES accounts,
    device_id    TEXT NOT NULL,
    scope        TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    challenge    TEXT NOT NULL,                -- PKCE, method S256
    expires_ms   INTEGER NOT NULL,
    used         INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_codes_by_age ON oauth_codes (expires_ms);

-- Refresh tokens of OAuth sessions that were replaced: whoever shows one has stolen it, or was stolen from.
CREATE TABLE spent_refresh_tokens (
    token_hash BLOB PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    device_id  TEXT NOT NULL,
    spent_ms   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX spent_refresh_tokens_by_device ON spent_refresh_tokens (user_nid, device_id);
CREATE INDEX spent_refresh_tokens_by_age ON spent_refresh_tokens (spent_ms);

-- What a user shows to another service to prove who they are. Good for nothing else.
CREATE TABLE openid_tokens (
    token_hash BLOB PRIMARY KEY,
    user_nid   INTEGER NOT NULL REFERENCES accounts,
    expires_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX openid_tokens_by_user ON openid_tokens (user_nid, expires_ms);
CREATE INDEX openid_tokens_by_age ON openid_tokens (expires_ms);
