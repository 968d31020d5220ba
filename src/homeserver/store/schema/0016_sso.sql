-- Whom an OpenID Connect provider vouches for. By issuer, not by the provider's name in the settings: a subject means something
-- only to the issuer who made it.
CREATE TABLE sso_identities (
    issuer    TEXT NOT NULL,
    subject   TEXT NOT NULL,
    user_nid  INTEGER NOT NULL REFERENCES accounts,
    linked_ms INTEGER NOT NULL,
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX sso_identities_user ON sso_identities (user_nid);
