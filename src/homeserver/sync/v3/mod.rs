//! `GET /_matrix/client/v3/sync`.
