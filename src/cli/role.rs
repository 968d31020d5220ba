//! Our part with the profile's own node: we run it, or are attached to the process that does and take over when it ends.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    exit::{Exit, Failure},
    node::{self, Attached, OwnNode, Plan},
};
use crate::{base::Shutdown, client::view::NodeState, homeserver::StartError};

/// How long a node is tried that is locked and does not answer: its process is starting or ending, or hangs.
const PATIENCE: Duration = Duration::from_secs(8);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Who runs the node.
#[derive(Debug, Default)]
pub enum Role {
    /// The profile has none.
    #[default]
    None,
    /// We do.
    Here(Box<OwnNode>),
    /// Another process does.
    Attached(Attached),
    /// Nobody, and why.
    Down(Failure),
}

/// What happens with the node.
#[derive(Debug, Clone, Copy)]
pub enum RoleEvent {
    /// The process that runs it has ended.
    OtherEnded,
    /// A part of our node failed.
    Failed,
}

impl RoleEvent {
    /// What it means where no screen has to hear of it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        match self {
            Self::OtherEnded => Failure::new(Exit::Unreachable, "the process that ran the node has ended"),
            Self::Failed => Failure::new(Exit::Failure, "a part of the node failed; the log file says more"),
        }
    }
}

impl Role {
    /// Starts the node, or attaches to the process that runs it.
    pub async fn take(plan: &Plan) -> Self {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match OwnNode::start(plan, &Shutdown::new()).await {
                Ok(node) => return Self::Here(Box::new(node)),
                Err(StartError::InUse(_)) => {}
                Err(error) => {
                    tracing::error!(%error, "the node did not start");
                    return Self::Down(node::failure(&error));
                }
            }
            if let Ok(Some(attached)) = tokio::time::timeout_at(until, Attached::find(&plan.admin_socket())).await {
                tracing::info!(server_name = attached.server_name, "attached to the process that runs the node");
                return Self::Attached(attached);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let message = format!("another process has the node's data in {} open and does not answer", plan.dir.display());
        tracing::error!("{message}");
        Self::Down(Failure::new(Exit::Busy, message))
    }

    /// What happens next. Cancel-safe.
    pub async fn next(&mut self) -> RoleEvent {
        match self {
            Self::Here(node) => {
                node.failed().await;
                RoleEvent::Failed
            }
            Self::Attached(attached) => {
                attached.ended().await;
                RoleEvent::OtherEnded
            }
            Self::None | Self::Down(_) => std::future::pending().await,
        }
    }

    /// For the status bar.
    #[must_use]
    pub fn state(&self) -> NodeState {
        match self {
            Self::None => NodeState::None,
            Self::Here(node) => NodeState::Here { server_name: node.server_name() },
            Self::Attached(attached) => NodeState::Attached { server_name: attached.server_name.clone() },
            Self::Down(failure) => NodeState::Down { reason: failure.message.clone() },
        }
    }

    /// Stops the node if it is ours.
    pub async fn stop(&mut self) {
        if let Self::Here(node) = std::mem::take(self) {
            node.stop().await;
        }
    }
}
