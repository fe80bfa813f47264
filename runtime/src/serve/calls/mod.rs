//! What callers may do, on any surface: gRPC (`services`) and HTTP (`crate::http`) both render
//! these functions over the schema's messages.
//!
//! A call is put to this node; what only the leader may do is forwarded to it, once, with the
//! message as the caller sent it (P3.6). What is no longer in memory is read from history (P8.7).

mod act;
mod ended;
mod forward;
mod key;
mod list;
mod logs;
mod look;
mod page;
mod submit;
#[cfg(all(test, not(madsim)))]
mod tests;
mod whose;

use std::sync::Arc;

use dtask_core::node::{Rejection, Reply, Request};
use tonic::metadata::MetadataMap;

pub(crate) use key::{ID_MAX, REQUEST_ID_OF_BATCH_MAX};
pub use logs::LogReader;
pub(crate) use submit::fresh_id;

use super::inbox::NodeHandle;
use super::ports::HistoryRead;
use super::status::NodeStatus;
use crate::api::Fault;
use forward::Leaders;

/// The metadata that marks a call as forwarded by another node.
pub const FORWARDED: &str = "dtask-forwarded";

/// What is known of a call beside its message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Another node forwarded it: it goes no further.
    pub forwarded: bool,
}

impl From<&MetadataMap> for Call {
    fn from(metadata: &MetadataMap) -> Self {
        Self { forwarded: metadata.get(FORWARDED).is_some_and(|mark| mark == "1") }
    }
}

/// The calls of one node. Connections to the leader belong to the runtime that first forwards:
/// each runtime has a `Calls` of its own.
pub struct Calls {
    node: NodeHandle,
    status: Arc<NodeStatus>,
    history: Option<Arc<dyn HistoryRead>>,
    whose: whose::Whose,
    leaders: Leaders,
}

/// Why a question has no answer here.
enum No {
    Refused(Fault),
    /// The leader at this address is to be asked.
    AskLeader(Box<str>),
}

impl Calls {
    /// The calls of the node behind `node`. Without `history` finished tasks are known only for
    /// as long as they are in memory.
    pub fn new(
        node: NodeHandle,
        status: Arc<NodeStatus>,
        history: Option<Arc<dyn HistoryRead>>,
    ) -> Self {
        Self { node, status, history, whose: whose::Whose::default(), leaders: Leaders::default() }
    }

    /// What the node last said of itself.
    pub fn status(&self) -> &NodeStatus {
        &self.status
    }

    /// The way into the node.
    pub const fn node(&self) -> &NodeHandle {
        &self.node
    }

    /// Puts a question to this node.
    async fn put(&self, call: Call, request: Request) -> Result<Reply, No> {
        let reply = self.node.ask(request, call.forwarded).await;
        match reply.map_err(|gone| No::Refused(gone.into()))? {
            Reply::Rejected(rejection) => Err(refusal(call, rejection)),
            reply => Ok(reply),
        }
    }
}

/// A forwarded call that meets no leader here goes no further: the sender tries again.
fn refusal(call: Call, rejection: Rejection) -> No {
    match rejection {
        Rejection::NotLeader { leader: Some((_, address)) }
            if !call.forwarded && !address.is_empty() =>
        {
            No::AskLeader(address)
        }
        rejection => No::Refused(rejection.into()),
    }
}

/// The node answered what the question does not have.
fn odd(reply: &Reply) -> Fault {
    tracing::error!(?reply, "an answer that its question does not have");
    Fault::internal("the node gave an answer that the question does not have")
}
