//! One connection to a server: frames out, frames in, and word of its end.

use dtask_core::codec::worker::{decode_leader_frame, encode_worker_frame};
use dtask_core::id::SessionId;
use dtask_core::limits;
use dtask_core::worker::{ConnectionId, Input, WorkerFrame};
use dtask_proto::v1::WorkerToLeader;
use dtask_proto::v1::worker_service_client::WorkerServiceClient;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Status;
use tracing::debug;

use crate::serve::net;

/// Frames on their way to the transport. A worker sends one or two a turn; when this many wait,
/// the connection is stuck and given up.
const OUTGOING_MAX: usize = 1_024;

/// A connection. Dropped, it is closed.
#[derive(Debug)]
pub(super) struct Session {
    connection: ConnectionId,
    outgoing: mpsc::Sender<WorkerToLeader>,
    task: JoinHandle<()>,
}

impl Session {
    /// Begins to connect; `inbox` hears `Connected`, frames, and at last `Disconnected`.
    pub(super) fn open(
        connection: ConnectionId,
        server: Box<str>,
        inbox: mpsc::Sender<Input>,
    ) -> Self {
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let task = tokio::spawn(async move {
            if let Err(status) = converse(connection, &server, queue, &inbox).await {
                debug!(%server, code = ?status.code(), "connection ended: {}", status.message());
            }
            let _ = inbox.send(Input::Disconnected { connection }).await;
        });
        Self { connection, outgoing, task }
    }

    /// Which connection this is.
    pub(super) const fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Queues a frame; false when the connection is stuck or over.
    pub(super) fn send(&self, session: Option<SessionId>, frame: WorkerFrame) -> bool {
        self.outgoing.try_send(encode_worker_frame(session, frame)).is_ok()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(
    connection: ConnectionId,
    server: &str,
    mut queue: mpsc::Receiver<WorkerToLeader>,
    inbox: &mpsc::Sender<Input>,
) -> Result<(), Status> {
    let channel = net::connect(server).await?;
    let mut client = WorkerServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    // Before the call: a server may send its headers only once it has read the Hello.
    let _ = inbox.send(Input::Connected { connection }).await;
    let outgoing = futures_util::stream::poll_fn(move |context| queue.poll_recv(context));
    let mut incoming = client.session(outgoing).await?.into_inner();
    while let Some(message) = incoming.message().await? {
        let frame = decode_leader_frame(message)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if inbox.send(Input::Frame { connection, frame }).await.is_err() {
            break;
        }
    }
    Ok(())
}
