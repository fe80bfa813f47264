//! Streams to the other nodes (P3.8): one for log traffic, one for votes and introductions, one
//! for each snapshot on its way, so that none waits behind another.
//!
//! A stream carries messages one way; the answers of the other node's raft come as messages on
//! that node's own stream. Every queue is bounded, and what does not fit is dropped: raft repeats.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use dtask_core::codec::peer;
use dtask_core::consensus::{Body, Envelope, RaftMessage, SnapshotPiece};
use dtask_core::id::NodeId;
use dtask_core::limits;
use dtask_core::node::Input;
use dtask_proto::v1::PeerEnvelope;
use dtask_proto::v1::peer_service_client::PeerServiceClient;
use futures_util::Stream;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;

use super::inbox::NodeHandle;
use super::net;
use super::ports::SnapshotRead;

/// Envelopes that wait for a log stream: more than raft keeps in flight.
const APPEND_ENVELOPES_MAX: usize = 1_024;
/// Envelopes that wait for a vote stream: some elections' worth.
const VOTE_ENVELOPES_MAX: usize = 64;
/// Pieces read ahead for a snapshot stream.
const PIECES_AHEAD: usize = 2;
/// The wait before the first new try of a broken stream; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest wait between tries: an election's length, so that a node that came back is heard
/// within one.
const RETRY_LONGEST: Duration = Duration::from_millis(500);
/// How long a snapshot's transfer may take: 4.5 GB at 8 MB/s. A vanished receiver is noticed by
/// the connection's own probes long before.
const TRANSFER_MAX: Duration = Duration::from_secs(600);

/// The streams to every other node.
pub struct Peers {
    links: BTreeMap<NodeId, Link>,
    node: NodeHandle,
    /// Group, cluster and sender as the node last wrote them: a snapshot's pieces carry the same.
    stamp: Option<Envelope>,
}

/// One other node. Its streams end when this is dropped.
struct Link {
    address: Arc<str>,
    append: mpsc::Sender<Envelope>,
    vote: mpsc::Sender<Envelope>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Append,
    Vote,
}

impl Peers {
    /// Opens streams to `others` as (id, `host:port`); must be called inside the runtime.
    pub fn new(others: impl IntoIterator<Item = (NodeId, String)>, node: NodeHandle) -> Self {
        let mut links = BTreeMap::new();
        for (id, address) in others {
            let address: Arc<str> = address.into();
            let (append, append_queue) = mpsc::channel(APPEND_ENVELOPES_MAX);
            let (vote, vote_queue) = mpsc::channel(VOTE_ENVELOPES_MAX);
            for (lane, queue) in [(Lane::Append, append_queue), (Lane::Vote, vote_queue)] {
                let queue = Queue(Arc::new(Mutex::new(queue)));
                tokio::spawn(run_lane(lane, id, address.clone(), queue, node.clone()));
            }
            links.insert(id, Link { address, append, vote });
        }
        Self { links, node, stamp: None }
    }

    /// Whether there is no other node.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    /// Queues an envelope, its raft messages split by stream. A recipient that is not known, or
    /// whose queue is full, does not get it.
    pub fn send(&mut self, mut envelope: Envelope) {
        self.stamp = Some(envelope.clone_head());
        let Some(link) = self.links.get(&envelope.to) else { return };
        if let Body::Raft(messages) = &mut envelope.body {
            let votes: Vec<RaftMessage> = messages.extract_if(.., |m| is_vote(m)).collect();
            if !votes.is_empty() {
                let body = Body::Raft(votes);
                let head = envelope.clone_head();
                drop(link.vote.try_send(Envelope { body, ..head }));
            }
        }
        let queue = match &envelope.body {
            Body::Raft(messages) if messages.is_empty() && envelope.vitals.is_none() => return,
            Body::Raft(_) | Body::Snapshot(_) => &link.append,
            Body::Introduce { .. } | Body::Reject { .. } | Body::Announce { .. } => &link.vote,
        };
        drop(queue.try_send(envelope));
    }

    /// Sends a snapshot file in pieces on a stream of its own, then says how it went.
    pub fn send_snapshot(
        &self,
        to: NodeId,
        index: u64,
        term: u64,
        file: Option<Box<dyn SnapshotRead>>,
    ) {
        let parts = (self.links.get(&to), &self.stamp, file);
        let (Some(link), Some(stamp), Some(file)) = parts else {
            let node = self.node.clone();
            let input = Input::SnapshotSent { to, delivered: false };
            tokio::spawn(async move { node.tell(input).await });
            return;
        };
        let head = Envelope { to, ..stamp.clone_head() };
        let (address, node) = (link.address.clone(), self.node.clone());
        tokio::spawn(async move {
            let result = transfer(&address, head, index, term, file).await;
            if let Err(error) = &result {
                tracing::warn!(to = to.0, index, %error, "a snapshot did not arrive");
            }
            node.tell(Input::SnapshotSent { to, delivered: result.is_ok() }).await
        });
    }
}

/// An envelope's head, without copying its body.
trait CloneHead {
    fn clone_head(&self) -> Envelope;
}

impl CloneHead for Envelope {
    fn clone_head(&self) -> Envelope {
        let (group, cluster, from, to) = (self.group, self.cluster, self.from, self.to);
        Envelope { group, cluster, from, to, body: Body::Raft(Vec::new()), vitals: None }
    }
}

/// raft-rs's numbers of the messages that elections are made of: request vote and its response,
/// pre-vote and its response, time out now.
const fn is_vote(message: &RaftMessage) -> bool {
    matches!(message.kind, 5 | 6 | 14 | 17 | 18)
}

/// Keeps one stream open for as long as the link lives.
async fn run_lane(lane: Lane, to: NodeId, address: Arc<str>, queue: Queue, node: NodeHandle) {
    let mut wait = RETRY_FIRST;
    let mut heard = true;
    while !queue.is_closed() {
        let began = tokio::time::Instant::now();
        let result = match net::connect(&address).await {
            Ok(channel) => {
                if !heard {
                    tracing::info!(peer = to.0, %address, ?lane, "stream open again");
                }
                heard = true;
                forward(lane, channel, queue.clone()).await
            }
            Err(status) => Err(status),
        };
        let Err(status) = result else { continue };
        if heard {
            let error = net::cause(&status);
            tracing::info!(peer = to.0, %address, ?lane, error, "stream broken");
            heard = false;
        }
        // What waited for the broken stream is stale: raft says it again, from what it then knows.
        queue.clear();
        if lane == Lane::Append && node.tell(Input::PeerUnreachable { to }).await.is_err() {
            return;
        }
        if began.elapsed() > RETRY_LONGEST * 2 {
            wait = RETRY_FIRST;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_LONGEST);
    }
}

/// Sends what the queue holds until the stream breaks (an error) or the link ends.
async fn forward(lane: Lane, channel: Channel, queue: Queue) -> Result<(), Status> {
    let mut client = PeerServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    match lane {
        Lane::Append => client.append_entries(queue).await?,
        Lane::Vote => client.vote(queue).await?,
    };
    Ok(())
}

/// A lane's queue as a stream of messages. It outlives each connection: the next one goes on.
#[derive(Clone)]
struct Queue(Arc<Mutex<mpsc::Receiver<Envelope>>>);

impl Queue {
    fn is_closed(&self) -> bool {
        let queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.is_closed() && queue.is_empty()
    }

    fn clear(&self) {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while queue.try_recv().is_ok() {}
    }
}

impl Stream for Queue {
    type Item = PeerEnvelope;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerEnvelope>> {
        let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.poll_recv(context).map(|envelope| envelope.map(peer::encode_envelope))
    }
}

/// Sends a file's pieces and waits until the receiver has taken the last one.
async fn transfer(
    address: &str,
    head: Envelope,
    index: u64,
    term: u64,
    mut file: Box<dyn SnapshotRead>,
) -> Result<(), Status> {
    let channel = net::connect(address).await?;
    let mut client = PeerServiceClient::new(channel)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let (pieces, queue) = mpsc::channel(PIECES_AHEAD);
    let reader = async move {
        let mut offset = 0;
        let (mut file_back, mut data) = read_piece(file).await?;
        loop {
            file = file_back;
            let next;
            (file_back, next) = read_piece(file).await?;
            let last = next.is_empty();
            let size = data.len() as u64;
            let body = Body::Snapshot(SnapshotPiece { index, term, offset, data, last });
            let envelope = Envelope { body, ..head.clone_head() };
            if pieces.send(peer::encode_envelope(envelope)).await.is_err() || last {
                return Ok::<(), Status>(());
            }
            offset += size;
            data = next;
        }
    };
    let call = client.install_snapshot(tokio_stream::wrappers::ReceiverStream::new(queue));
    let both = async { tokio::try_join!(reader, async { call.await.map(drop) }) };
    match tokio::time::timeout(TRANSFER_MAX, both).await {
        Ok(result) => result.map(drop),
        Err(_) => Err(Status::deadline_exceeded("the receiver did not take it in time")),
    }
}

/// A file that is being sent, and its next piece.
type Read = (Box<dyn SnapshotRead>, bytes::Bytes);

async fn read_piece(file: Box<dyn SnapshotRead>) -> Result<Read, Status> {
    let (file, piece) = off_the_loop(file).await?;
    Ok((file, piece.map_err(|error| Status::internal(format!("snapshot file: {error}")))?))
}

/// What reading one piece gave.
type Tried = (Box<dyn SnapshotRead>, std::io::Result<bytes::Bytes>);

/// Reads on another thread: a cold file would stall every connection of the node (P10.1).
#[cfg(not(madsim))]
async fn off_the_loop(mut file: Box<dyn SnapshotRead>) -> Result<Tried, Status> {
    let read = move || {
        let piece = file.next(limits::SNAPSHOT_PIECE_BYTES);
        (file, piece)
    };
    let joined = tokio::task::spawn_blocking(read).await;
    joined.map_err(|error| Status::internal(error.to_string()))
}

/// The simulator has no other thread, and its disk never blocks one.
#[cfg(madsim)]
async fn off_the_loop(mut file: Box<dyn SnapshotRead>) -> Result<Tried, Status> {
    let piece = file.next(limits::SNAPSHOT_PIECE_BYTES);
    Ok((file, piece))
}
