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
/// How far the thread stands back where cores are short: it gets a tenth of what another thread
/// gets, so that it never stands still.
#[cfg(all(target_os = "linux", not(madsim)))]
const NICE: i32 = 10;
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
        spawn(Tender { writer, node, orders: receiver, last_error: None }.run())?;
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

#[cfg(not(madsim))]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("history".into()).spawn(move || {
        give_way();
        runtime.block_on(work);
    })?;
    Ok(())
}

/// P9.5: history delays no run. Where cores are short, this thread is the one that waits; the
/// outbox holds what it is behind, and refuses new tasks before it is full.
#[cfg(all(target_os = "linux", not(madsim)))]
fn give_way() {
    // Linux keeps a priority for each thread, and no process means the calling thread. One that
    // may not be lowered keeps its own: history is then as fast as the rest allows.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "the history thread keeps its priority");
    }
}

/// Elsewhere a priority is the whole process's.
#[cfg(all(not(target_os = "linux"), not(madsim)))]
fn give_way() {}

/// The simulator has one thread.
#[cfg(madsim)]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    tokio::spawn(work);
    Ok(())
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
            // A try that failed is followed by a pause, whether it was to open or to store. Without
            // a failure there is none, because the pause lets batches go: the node may have asked
            // for a second open while this thread was trying by itself, heard of the first, and
            // put its batch behind the second. It would wait for that batch for ever.
            if !pause.is_zero()
                && let Err(order) = self.pause(pause).await
            {
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

    async fn tell(&mut self, input: Input) {
        // A node that is gone needs no answer; this thread ends with its handle.
        let _ = self.node.tell(input).await;
    }
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::history::writer::Cursor;
    use crate::serve::inbox::{Arrival, Inbox, inbox};

    const CLUSTER: ClusterId = ClusterId(7);

    /// A database that answers by a script; past its end everything succeeds.
    #[derive(Clone, Default)]
    struct Scripted {
        failures: Arc<Mutex<VecDeque<bool>>>,
        opens: Arc<Mutex<Vec<ClusterId>>>,
        through: u64,
    }

    impl Scripted {
        /// `true` is a call that fails.
        fn new(failures: &[bool]) -> Self {
            let failures = Arc::new(Mutex::new(failures.iter().copied().collect()));
            Self { failures, ..Self::default() }
        }

        fn try_once(&self) -> Result<(), WriteError> {
            let mut failures = self.failures.lock().expect("no test panics with it");
            match failures.pop_front() {
                Some(true) => Err(WriteError::Away("unplugged".into())),
                Some(false) | None => Ok(()),
            }
        }
    }

    impl Writer for Scripted {
        async fn open(&mut self, cluster: ClusterId) -> Result<Cursor, WriteError> {
            self.opens.lock().expect("no test panics with it").push(cluster);
            self.try_once()?;
            Ok(Cursor { epoch: 3, through: self.through })
        }

        async fn store(&mut self, batch: &HistoryBatch) -> Result<u64, WriteError> {
            self.try_once()?;
            self.through = batch.through;
            Ok(batch.through)
        }

        async fn close(&mut self) {}
    }

    fn start(writer: Scripted) -> (HistoryHandle, Inbox) {
        let (node, inbox) = inbox();
        (HistoryHandle::start(writer, node).expect("a thread"), inbox)
    }

    fn batch(after: u64, through: u64) -> Box<HistoryBatch> {
        Box::new(HistoryBatch {
            cluster: CLUSTER,
            epoch: 3,
            after,
            through,
            gap: None,
            tasks: Vec::new(),
            runs: Vec::new(),
            attempts: Vec::new(),
        })
    }

    fn answer(inbox: &mut Inbox) -> Input {
        match inbox.arrivals.blocking_recv().expect("the thread lives") {
            Arrival::Input(input) => input,
            other => panic!("{other:?} is no input"),
        }
    }

    #[test]
    fn each_failed_try_to_open_is_told_and_followed_by_another() {
        let (mut history, mut inbox) = start(Scripted::new(&[true, true, false]));
        history.open(CLUSTER);
        assert_eq!(answer(&mut inbox), Input::HistoryFailed);
        assert_eq!(answer(&mut inbox), Input::HistoryFailed);
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 0 });
        history.store(batch(0, 5));
        assert_eq!(answer(&mut inbox), Input::HistoryStored { epoch: 3, through: 5 });
    }

    #[test]
    fn a_failed_batch_is_told_and_the_database_is_opened_again() {
        let (mut history, mut inbox) = start(Scripted::new(&[false, false, true]));
        history.open(CLUSTER);
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 0 });
        history.store(batch(0, 5));
        assert_eq!(answer(&mut inbox), Input::HistoryStored { epoch: 3, through: 5 });
        history.store(batch(5, 9));
        assert_eq!(answer(&mut inbox), Input::HistoryFailed);
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 5 });
        history.store(batch(5, 9));
        assert_eq!(answer(&mut inbox), Input::HistoryStored { epoch: 3, through: 9 });
    }

    #[test]
    fn a_node_that_lost_its_leadership_ends_the_tries_and_may_lead_again() {
        let writer = Scripted::new(&[true]);
        let opens = writer.opens.clone();
        let (mut history, mut inbox) = start(writer);
        history.open(CLUSTER);
        assert_eq!(answer(&mut inbox), Input::HistoryFailed);
        history.close();
        // Late, of the leadership that is over: nobody answers it.
        history.store(batch(0, 5));
        history.open(ClusterId(8));
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 0 });
        let opens = opens.lock().expect("no test panics with it").clone();
        assert_eq!(opens.last(), Some(&ClusterId(8)));
    }

    #[test]
    fn a_batch_behind_a_second_open_is_stored() {
        let (mut history, mut inbox) = start(Scripted::new(&[]));
        history.open(CLUSTER);
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 0 });
        // The node asked again while the thread was trying by itself, and then had its answer.
        history.open(CLUSTER);
        history.store(batch(0, 5));
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 0 });
        assert_eq!(answer(&mut inbox), Input::HistoryStored { epoch: 3, through: 5 });
    }

    #[test]
    fn the_thread_ends_with_its_handle() {
        let (mut history, mut inbox) = start(Scripted::new(&[]));
        history.open(CLUSTER);
        assert_eq!(answer(&mut inbox), Input::HistoryReady { epoch: 3, through: 0 });
        drop(history);
        assert!(inbox.arrivals.blocking_recv().is_none(), "the thread's way to the node is gone");
    }
}
