//! The history thread: performs a node's history effects on a writer, one at a time, and answers
//! through the node's inbox. A database that is away is tried again with growing pauses; the node
//! hears of each failed try and offers its batch again after the next `HistoryReady`.

use std::time::Duration;

use dtask_core::id::ClusterId;
use dtask_core::node::Input;
use dtask_core::state::history::HistoryBatch;
use tokio::sync::mpsc;

use super::writer::{WriteError, Writer};
use crate::serve::inbox::NodeHandle;
use crate::serve::ports::History;

/// Orders on their way to the thread. A node has one batch in flight and opens and closes rarely;
/// when more wait, a batch is refused as if the database were away.
const ORDERS_MAX: usize = 16;
/// The pause after the first failed try.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest pause.
const RETRY_MAX: Duration = Duration::from_secs(5);

enum Order {
    Open(ClusterId),
    Store(Box<HistoryBatch>),
    Close,
}

/// The node's end. Dropping it ends the thread after the order at hand.
#[derive(Debug)]
pub struct HistoryHandle {
    orders: mpsc::Sender<Order>,
}

impl HistoryHandle {
    /// Starts the thread.
    ///
    /// # Errors
    /// The operating system refuses a thread.
    pub fn start<W: Writer>(writer: W, node: NodeHandle) -> std::io::Result<Self> {
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("history".into()).spawn(move || {
            let tender = Tender { writer, node, orders: receiver, last_error: None };
            runtime.block_on(tender.run());
        })?;
        Ok(Self { orders })
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            // A lost `Open` or `Store` shows as silence, which the node may take for a slow
            // database; 16 orders never wait behind a living thread.
            tracing::error!("the history thread does not take orders");
        }
    }
}

impl History for HistoryHandle {
    fn open(&mut self, cluster: ClusterId) {
        self.order(Order::Open(cluster));
    }

    fn store(&mut self, batch: Box<HistoryBatch>) {
        self.order(Order::Store(batch));
    }

    fn close(&mut self) {
        self.order(Order::Close);
    }
}

/// What runs on the thread.
struct Tender<W> {
    writer: W,
    node: NodeHandle,
    orders: mpsc::Receiver<Order>,
    /// The latest complaint: the same one is not logged again at every try.
    last_error: Option<String>,
}

impl<W: Writer> Tender<W> {
    async fn run(mut self) {
        let mut next = self.orders.recv().await;
        while let Some(order) = next {
            next = match order {
                Order::Open(cluster) => self.serve(cluster).await,
                // Of a leadership that is over.
                Order::Store(_) | Order::Close => self.orders.recv().await,
            };
        }
        self.writer.close().await;
    }

    /// Serves one leadership; returns the order that ended it.
    async fn serve(&mut self, cluster: ClusterId) -> Option<Order> {
        let mut pause = Duration::ZERO;
        loop {
            // A try that failed is followed by a pause, whether it was to open or to store.
            if let Err(order) = self.pause(pause).await {
                return order;
            }
            pause = (pause * 2).clamp(RETRY_FIRST, RETRY_MAX);
            match self.writer.open(cluster).await {
                Ok(cursor) => {
                    tracing::info!(cursor.epoch, cursor.through, "history is open");
                    let ready =
                        Input::HistoryReady { epoch: cursor.epoch, through: cursor.through };
                    self.tell(ready).await;
                }
                Err(error) => {
                    self.complain(&error).await;
                    continue;
                }
            }
            loop {
                match self.orders.recv().await {
                    Some(Order::Store(batch)) => match self.writer.store(&batch).await {
                        Ok(through) => {
                            pause = Duration::ZERO;
                            self.last_error = None;
                            let epoch = batch.epoch;
                            self.tell(Input::HistoryStored { epoch, through }).await;
                        }
                        Err(error) => {
                            self.complain(&error).await;
                            break;
                        }
                    },
                    Some(Order::Close) => {
                        self.writer.close().await;
                        return self.orders.recv().await;
                    }
                    other @ (Some(Order::Open(_)) | None) => return other,
                }
            }
        }
    }

    /// Waits; an order that is not a batch ends the wait and the leadership.
    async fn pause(&mut self, pause: Duration) -> Result<(), Option<Order>> {
        let wake = tokio::time::sleep(pause);
        tokio::pin!(wake);
        loop {
            tokio::select! {
                biased;
                () = &mut wake => return Ok(()),
                order = self.orders.recv() => match order {
                    // Offered again after `HistoryReady`.
                    Some(Order::Store(_)) => {}
                    Some(Order::Close) => return Err(self.orders.recv().await),
                    other @ (Some(Order::Open(_)) | None) => return Err(other),
                },
            }
        }
    }

    async fn complain(&mut self, error: &WriteError) {
        let text = error.to_string();
        if self.last_error.as_ref() != Some(&text) {
            tracing::warn!(error = %text, "history is not written; accepted tasks run on");
            self.last_error = Some(text);
        }
        self.tell(Input::HistoryFailed).await;
    }

    async fn tell(&self, input: Input) {
        // A node that is gone needs no answer; this thread ends with its handle.
        let _ = self.node.tell(input).await;
    }
}
