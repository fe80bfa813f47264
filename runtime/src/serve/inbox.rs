//! The way into a node: one bounded queue of inputs, and callers' questions with the place where
//! their answer goes.
//!
//! Everything that talks to a node (services, peers' streams, worker sessions, disk and history)
//! holds a [`NodeHandle`]; the host loop (`host.rs`) alone holds the [`Inbox`]. Full means wait:
//! each sender is one connection's task, so the wait is that connection's backpressure.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dtask_core::id::{SessionId, Ticket};
use dtask_core::node::{Input, Reply, Request};
use dtask_core::worker::LeaderFrame;
use tokio::sync::{mpsc, oneshot};

use crate::api::Fault;

/// Inputs that wait for the node: some milliseconds of its work.
pub const INBOX_MAX: usize = 8_192;
/// Pieces of live output that wait for one reader; a reader further behind is cut off and resumes
/// by offset (P7.9).
pub const READER_PIECES_MAX: usize = 256;
/// Frames that wait for one worker; one further behind loses its session.
pub const SESSION_FRAMES_MAX: usize = 1_024;

/// What arrives at the host.
#[derive(Debug)]
pub enum Arrival {
    /// For the node, as it is.
    Input(Input),
    /// A question, and where its answers go.
    Ask {
        /// Names the answer.
        ticket: Ticket,
        /// The question.
        request: Request,
        /// Another node forwarded it.
        forwarded: bool,
        /// Where the answer goes.
        answer: Answer,
    },
    /// A worker has connected; its frames follow as inputs.
    SessionOpened {
        /// Its number.
        session: SessionId,
        /// Where the node's frames go.
        frames: mpsc::Sender<LeaderFrame>,
    },
}

/// Where an answer goes.
#[derive(Debug)]
pub enum Answer {
    /// One answer.
    Once(oneshot::Sender<Reply>),
    /// Pieces of output until the end.
    Pieces(mpsc::Sender<Reply>),
}

/// The node is shutting down: the question was not put, nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl From<Gone> for Fault {
    fn from(_: Gone) -> Self {
        Self::stopping()
    }
}

/// The host's end.
#[derive(Debug)]
pub struct Inbox {
    /// What has arrived and was not fed yet.
    pub arrivals: mpsc::Receiver<Arrival>,
}

/// Everybody else's end: cheap to clone.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    arrivals: mpsc::Sender<Arrival>,
    numbers: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    ticket: AtomicU64,
    session: AtomicU64,
}

/// A queue into a node, and its two ends.
pub fn inbox() -> (NodeHandle, Inbox) {
    let (sender, receiver) = mpsc::channel(INBOX_MAX);
    (NodeHandle { arrivals: sender, numbers: Arc::default() }, Inbox { arrivals: receiver })
}

impl NodeHandle {
    /// Puts a question and waits for its one answer. Dropping the future withdraws it.
    pub async fn ask(&self, request: Request, forwarded: bool) -> Result<Reply, Gone> {
        let ticket = self.next_ticket();
        let (sender, receiver) = oneshot::channel();
        let answer = Answer::Once(sender);
        let ask = Arrival::Ask { ticket, request, forwarded, answer };
        self.arrivals.send(ask).await.map_err(|_| Gone)?;
        let mut guard = Withdraw { handle: self, ticket, answered: false };
        let reply = receiver.await;
        guard.answered = true;
        reply.map_err(|_| Gone)
    }

    /// Puts a question that is answered piece by piece. Dropping the answer withdraws it.
    pub async fn follow(&self, request: Request, forwarded: bool) -> Result<Pieces, Gone> {
        let ticket = self.next_ticket();
        let (sender, receiver) = mpsc::channel(READER_PIECES_MAX);
        let answer = Answer::Pieces(sender);
        let ask = Arrival::Ask { ticket, request, forwarded, answer };
        self.arrivals.send(ask).await.map_err(|_| Gone)?;
        Ok(Pieces { handle: self.clone(), ticket, receiver, first: None })
    }

    /// Hands an input to the node.
    pub async fn tell(&self, input: Input) -> Result<(), Gone> {
        self.arrivals.send(Arrival::Input(input)).await.map_err(|_| Gone)
    }

    /// Hands an input to the node from a thread outside the runtime.
    #[cfg(not(madsim))]
    pub fn tell_blocking(&self, input: Input) -> Result<(), Gone> {
        self.arrivals.blocking_send(Arrival::Input(input)).map_err(|_| Gone)
    }

    /// Hands an input to the node unless its queue is full or gone.
    pub fn try_tell(&self, input: Input) -> bool {
        self.arrivals.try_send(Arrival::Input(input)).is_ok()
    }

    /// Registers a worker's connection; the frames that the node says to it arrive at the receiver.
    pub async fn open_session(&self) -> Result<(SessionId, mpsc::Receiver<LeaderFrame>), Gone> {
        let session = SessionId(self.numbers.session.fetch_add(1, Ordering::Relaxed) + 1);
        let (frames, receiver) = mpsc::channel(SESSION_FRAMES_MAX);
        let opened = Arrival::SessionOpened { session, frames };
        self.arrivals.send(opened).await.map_err(|_| Gone)?;
        Ok((session, receiver))
    }

    fn next_ticket(&self) -> Ticket {
        Ticket(self.numbers.ticket.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// The answer to a question that is answered piece by piece.
#[derive(Debug)]
pub struct Pieces {
    handle: NodeHandle,
    ticket: Ticket,
    receiver: mpsc::Receiver<Reply>,
    /// A piece that was looked at and put back.
    first: Option<Reply>,
}

impl Pieces {
    /// The next piece; `None` when the node has said everything, or cut this reader off.
    pub async fn next(&mut self) -> Option<Reply> {
        match self.first.take() {
            Some(first) => Some(first),
            None => self.receiver.recv().await,
        }
    }

    /// Makes `piece` the next one again.
    pub fn put_back(&mut self, piece: Reply) {
        self.first = Some(piece);
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        withdraw(&self.handle, self.ticket);
    }
}

/// Tells the node that a caller has gone, unless it was answered.
struct Withdraw<'a> {
    handle: &'a NodeHandle,
    ticket: Ticket,
    answered: bool,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if !self.answered {
            withdraw(self.handle, self.ticket);
        }
    }
}

/// When the queue is full the node learns of it later: the host finds the answer's receiver gone.
fn withdraw(handle: &NodeHandle, ticket: Ticket) {
    handle.try_tell(Input::Abandon { ticket });
}
