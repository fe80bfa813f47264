//! What stands before a node's gRPC port: it hands each connection on to the node's own server,
//! and can cut any of them in the middle. It lives and dies with the node's process.
//!
//! It also keeps a quirk of madsim-tonic out of the way: that server takes in one connection after
//! the other and waits for each one's first message, so that one slow caller would stop all.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dtask_core::rng::Rng;
use dtask_proto::v1;
use futures_util::future::join;
use madsim::net::{Endpoint, Receiver, Sender};
use tokio::sync::Notify;
use tonic::codegen::BoxMessage;
use tonic::codegen::http::uri::PathAndQuery;

use super::books::Witness;
use super::run::Sabotage;
use super::seen;

/// A message under way, of any kind.
type Payload = Box<dyn std::any::Any + Send + Sync>;

/// Every connection that is open. Clones share them.
#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Open>>);

#[derive(Default)]
struct Open {
    next: u64,
    streams: BTreeMap<u64, Stream>,
}

/// One connection, which carries one call.
struct Stream {
    from: SocketAddr,
    to: SocketAddr,
    path: Box<str>,
    cut: Arc<Notify>,
}

/// Ends a connection's entry with its connection.
struct Entry {
    streams: Streams,
    number: u64,
}

impl Streams {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, stream: Stream) -> Entry {
        let mut open = self.lock();
        open.next += 1;
        let number = open.next;
        open.streams.insert(number, stream);
        Entry { streams: self.clone(), number }
    }

    /// Cuts one open connection, drawn at random.
    pub fn cut_one(&self, witness: &Witness, rng: &mut Rng) {
        let open = self.lock();
        let place = rng.below(open.streams.len() as u64) as usize;
        let Some((number, stream)) = open.streams.iter().nth(place) else { return };
        let mut books = witness.books();
        books.note(0, "cuts a stream", [*number, 0, 0]);
        books.seen.hit(stream.kind());
        stream.cut.notify_one();
    }

    /// Cuts what goes between two machines, in either direction.
    pub fn cut_between(&self, one: IpAddr, other: IpAddr) {
        for stream in self.lock().streams.values() {
            let ends = (stream.from.ip(), stream.to.ip());
            if ends == (one, other) || ends == (other, one) {
                stream.cut.notify_one();
            }
        }
    }
}

impl Stream {
    fn kind(&self) -> &'static str {
        if self.path.contains("PeerService") {
            seen::PEER_STREAM_CUT
        } else if self.path.contains("WorkerService/") {
            seen::SESSION_CUT
        } else {
            seen::CALL_CUT
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.streams.lock().streams.remove(&self.number);
    }
}

/// Accepts at `public` for the server at `inner` until dropped.
pub async fn serve(
    public: SocketAddr,
    inner: SocketAddr,
    streams: Streams,
    sabotage: Sabotage,
) -> std::io::Result<()> {
    let listener = Endpoint::bind(public).await?;
    loop {
        let (sender, receiver, from) = listener.accept1().await?;
        let streams = streams.clone();
        tokio::spawn(async move {
            let ends = (from, public, inner);
            // A connection that ends before its first message was a greeting.
            drop(carry(ends, sender, receiver, &streams, sabotage).await);
        });
    }
}

async fn carry(
    (from, to, inner): (SocketAddr, SocketAddr, SocketAddr),
    sender: Sender,
    mut receiver: Receiver,
    streams: &Streams,
    sabotage: Sabotage,
) -> std::io::Result<()> {
    let first = receiver.recv().await?;
    let cut = Arc::new(Notify::new());
    let stream = Stream { from, to, path: path_of(&first), cut: cut.clone() };
    let _entry = streams.open(stream);
    let server = Endpoint::connect(inner).await?;
    let (onward, back) = server.connect1(inner).await?;
    onward.send(first).await?;
    let both = join(
        pump(receiver, onward, move |message| {
            sabotage != Sabotage::SessionDropsResults || !is_report(message)
        }),
        pump(back, sender, |_| true),
    );
    tokio::select! {
        biased;
        () = cut.notified() => {}
        _ = both => {}
    }
    Ok(())
}

/// Hands messages on until either end closes; what ends here ends there.
async fn pump(mut from: Receiver, to: Sender, passes: impl Fn(&Payload) -> bool) {
    loop {
        let message = tokio::select! {
            biased;
            () = to.closed() => return,
            message = from.recv() => message,
        };
        let Ok(message) = message else { return };
        if passes(&message) && to.send(message).await.is_err() {
            return;
        }
    }
}

fn path_of(first: &Payload) -> Box<str> {
    let head = first.downcast_ref::<(PathAndQuery, bool, tonic::Request<BoxMessage>)>();
    head.map_or_else(|| "".into(), |(path, _, _)| path.as_str().into())
}

fn is_report(message: &Payload) -> bool {
    use v1::worker_to_leader::Frame;
    let frame = message.downcast_ref::<v1::WorkerToLeader>().and_then(|it| it.frame.as_ref());
    matches!(frame, Some(Frame::Reports(_)))
}
