//! Our part with the profile's own node: we run it, or are attached to the process that does and take over when it ends.

use std::time::Duration;

use super::{
    exit::{Exit, Failure},
    node::{self, Attached, NodeEvent, OwnNode, Plan, Wish},
};
use crate::{base::Shutdown, client::view::NodeState, homeserver::StartError};

/// How often and how long a node is tried that is locked and does not answer: its process is starting or ending.
const ATTEMPTS: u32 = 60;
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
#[derive(Debug)]
pub enum RoleEvent {
    /// The owner wishes something.
    Wish(Wish),
    /// The process that runs it has ended.
    OtherEnded,
    /// A part of our node failed.
    Failed,
}

impl Role {
    /// Starts the node, or attaches to the process that runs it.
    pub async fn take(plan: &Plan) -> Self {
        for _ in 0..ATTEMPTS {
            match OwnNode::start(plan, &Shutdown::new()).await {
                Ok(node) => return Self::Here(Box::new(node)),
                Err(StartError::InUse(_)) => {}
                Err(error) => {
                    tracing::error!(%error, "the node did not start");
                    return Self::Down(node::failure(&error));
                }
            }
            if let Some(attached) = Attached::find(&plan.admin_socket()).await {
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
            Self::Here(node) => match node.next().await {
                NodeEvent::Wish(wish) => RoleEvent::Wish(wish),
                NodeEvent::Failed => RoleEvent::Failed,
            },
            Self::Attached(attached) => {
                attached.ended().await;
                RoleEvent::OtherEnded
            }
            Self::None | Self::Down(_) => std::future::pending().await,
        }
    }

    /// Does what an event asks for, where no screen has to hear of it.
    ///
    /// # Errors
    /// When the node is lost.
    pub async fn serve(&mut self, event: RoleEvent) -> Result<(), Failure> {
        match (event, &self) {
            (RoleEvent::Wish(wish), Self::Here(node)) => {
                node.fulfil(wish).await;
                Ok(())
            }
            (RoleEvent::Wish(_), _) => Ok(()),
            (RoleEvent::OtherEnded, _) => Err(Failure::new(Exit::Unreachable, "the process that ran the node has ended")),
            (RoleEvent::Failed, _) => Err(Failure::new(Exit::Failure, "a part of the node failed; the log file says more")),
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
