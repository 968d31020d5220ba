//! The session as the status bar shows it: who we are, how the connection stands, what the node does.

use ruma::{OwnedDeviceId, OwnedUserId};

/// How the last contact with the homeserver went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Connection {
    /// No account is signed in.
    #[default]
    SignedOut,
    /// The session is being restored or the first request is under way.
    Connecting,
    /// The homeserver answers.
    Online,
    /// The homeserver cannot be reached. Retried without being asked.
    Offline {
        /// What happened, in words for a person.
        reason: String,
    },
    /// The homeserver no longer accepts our access token: sign in again. Local data is kept.
    Expired {
        /// What the server said.
        reason: String,
    },
}

/// How far sync has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SyncPhase {
    /// Not syncing.
    #[default]
    Idle,
    /// The first answer of this run has not arrived.
    Starting,
    /// Rooms are still being loaded.
    CatchingUp,
    /// Up to date, waiting for news.
    Live,
}

/// The embedded node, where this profile has one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodeState {
    /// This profile uses a homeserver elsewhere.
    #[default]
    None,
    /// Runs in this process.
    Here {
        /// Its server name.
        server_name: String,
    },
    /// Another homeroom process runs it; we are attached to its socket.
    Attached {
        /// Its server name.
        server_name: String,
    },
    /// It stopped or could not start.
    Down {
        /// What happened and what to do, in words for a person.
        reason: String,
    },
}

/// Everything the status bar needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SessionView {
    /// The signed-in user.
    pub user_id: Option<OwnedUserId>,
    /// The signed-in user's display name.
    pub display_name: Option<String>,
    /// Our device.
    pub device_id: Option<OwnedDeviceId>,
    /// Connection.
    pub connection: Connection,
    /// Sync progress.
    pub sync: SyncPhase,
    /// Embedded node.
    pub node: NodeState,
    /// Messages that wait in the send queue, all rooms together.
    pub queued: u32,
    /// Messages whose sending failed and that wait for retry or discard.
    pub failed: u32,
}
