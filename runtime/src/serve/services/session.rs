//! `WorkerService.Session`, the server's half: a worker's connection becomes a numbered session of
//! the node, its frames inputs, and the node's frames its answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use dtask_core::codec::worker as codec;
use dtask_core::id::SessionId;
use dtask_core::node::Input;
use dtask_core::worker::{LeaderFrame, WorkerFrame};
use dtask_proto::v1;
use dtask_proto::v1::worker_service_server::WorkerService;
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::serve::inbox::NodeHandle;

/// `WorkerService` of one node.
#[derive(Clone)]
pub struct SessionEdge(pub NodeHandle);

#[tonic::async_trait]
impl WorkerService for SessionEdge {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<v1::LeaderToWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::WorkerToLeader>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let stopping = |_| Status::unavailable("the node is shutting down");
        let (session, frames) = self.0.open_session().await.map_err(stopping)?;
        tokio::spawn(listen(self.0.clone(), session, request.into_inner()));
        Ok(Response::new(Box::pin(Said { frames })))
    }
}

/// Feeds a worker's frames to the node until the stream ends or breaks its rules.
async fn listen(node: NodeHandle, session: SessionId, mut frames: Streaming<v1::WorkerToLeader>) {
    let mut greeted = false;
    loop {
        let message = match frames.message().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(session = session.0, error = status.message(), "session broke");
                break;
            }
        };
        let frame = match codec::decode_worker_frame(message) {
            Ok((named, frame)) if belongs(session, greeted, named, &frame) => frame,
            Ok((named, _)) => {
                tracing::warn!(session = session.0, ?named, "a frame of another session");
                break;
            }
            Err(error) => {
                tracing::warn!(session = session.0, %error, "a frame that cannot be read");
                break;
            }
        };
        greeted = true;
        if node.tell(Input::Worker { session, frame }).await.is_err() {
            return;
        }
    }
    // The host drops the session's frames on this, which ends the other half.
    let _stopping = node.tell(Input::WorkerGone { session }).await;
}

/// The Hello comes first, once, and unnamed; every later frame names its session (P7.2).
fn belongs(
    session: SessionId,
    greeted: bool,
    named: Option<SessionId>,
    frame: &WorkerFrame,
) -> bool {
    match frame {
        WorkerFrame::Hello(_) => !greeted && named.is_none(),
        WorkerFrame::Heartbeat { .. }
        | WorkerFrame::Started(_)
        | WorkerFrame::Reports(_)
        | WorkerFrame::Output { .. }
        | WorkerFrame::Draining => greeted && named == Some(session),
    }
}

/// What the node says to a worker.
struct Said {
    frames: mpsc::Receiver<LeaderFrame>,
}

impl Stream for Said {
    type Item = Result<v1::LeaderToWorker, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let said = self.frames.poll_recv(context);
        said.map(|frame| frame.map(|frame| Ok(codec::encode_leader_frame(frame))))
    }
}
