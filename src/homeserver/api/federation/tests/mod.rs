//! What servers tell each other, as the endpoints and the clients beside them see it.

mod edus;
mod left;
mod outgoing;
