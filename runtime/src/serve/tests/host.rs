//! The host loop, driving a machine that writes down what it is fed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dtask_core::id::NodeId;
use dtask_core::log::Persist;
use dtask_core::machine::{Deadline, Machine, Outbox};
use dtask_core::node::{Effect, Input, Reply, Request};
use dtask_core::time::Now;
use tokio::sync::watch;

use crate::serve::clock::SystemClock;
use crate::serve::host::{Ended, HostParts, run};
use crate::serve::inbox::{NodeHandle, inbox};
use crate::serve::peers::Peers;
use crate::serve::ports::{Disk, NoHistory, SnapshotRead};
use crate::serve::status::NodeStatus;

/// Answers a barrier once its `Persist` is durable; halts at a cancel; ignores the rest.
#[derive(Default)]
struct Scribe {
    fed: Arc<Mutex<Vec<Input>>>,
    asked: Vec<dtask_core::id::Ticket>,
    persists: u64,
}

impl Machine for Scribe {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, _: Now, input: Input, out: &mut Outbox<Effect>) {
        match &input {
            Input::Ask { ticket, request: Request::Barrier, .. } => {
                self.asked.push(*ticket);
                self.persists += 1;
                out.push(Effect::Persist(persist(self.persists)));
            }
            Input::Ask { request: Request::Cancel { .. }, .. } => {
                out.push(Effect::Halt { reason: "it was told to".to_owned() });
            }
            Input::Persisted { n } => {
                for ticket in self.asked.drain(..) {
                    let reply = Reply::Applied { index: *n, changes: 0 };
                    out.push(Effect::Answer { ticket, reply });
                }
            }
            _ => {}
        }
        if input != Input::Flush && input != Input::Wake {
            self.fed.lock().expect("no test panics while it holds this").push(input);
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        None
    }

    fn wake() -> Input {
        Input::Wake
    }

    fn flush() -> Input {
        Input::Flush
    }
}

fn persist(n: u64) -> Persist {
    Persist { n, hard_state: Default::default(), entries: Vec::new(), fact: None }
}

/// Durable as soon as it is told.
struct QuickDisk(watch::Sender<u64>);

impl Disk for QuickDisk {
    fn persist(&mut self, persist: Persist) {
        self.0.send_replace(persist.n);
    }

    fn snapshot_write(&mut self, _: u64, _: Bytes) {}

    fn snapshot_finish(&mut self, _: u64) {}

    fn snapshot_abort(&mut self, _: u64) {}

    fn snapshot_read(&self, _: u64) -> Option<Box<dyn SnapshotRead>> {
        None
    }
}

struct Running {
    node: NodeHandle,
    fed: Arc<Mutex<Vec<Input>>>,
    stop: watch::Sender<bool>,
    ended: tokio::task::JoinHandle<Ended>,
}

fn start() -> Running {
    let (node, inbox) = inbox();
    let (durable, durable_seen) = watch::channel(0);
    let (stop, shutdown) = watch::channel(false);
    let scribe = Scribe::default();
    let fed = scribe.fed.clone();
    let ended = tokio::spawn(run(HostParts {
        node: scribe,
        clock: SystemClock,
        disk: QuickDisk(durable),
        durable: durable_seen,
        history: NoHistory::new(node.clone()),
        peers: Peers::new([], node.clone()),
        inbox,
        status: Arc::new(NodeStatus::new(NodeId(1))),
        shutdown,
    }));
    Running { node, fed, stop, ended }
}

#[tokio::test]
async fn answer_comes_after_its_record_is_durable() {
    let running = start();
    let reply = running.node.ask(Request::Barrier, false).await;
    assert_eq!(reply, Ok(Reply::Applied { index: 1, changes: 0 }));
    let fed = running.fed.lock().expect("no test panics while it holds this");
    assert!(matches!(fed[..], [Input::Ask { .. }, Input::Persisted { n: 1 }]), "{fed:?}");
}

#[tokio::test]
async fn caller_that_leaves_withdraws_its_question() {
    let running = start();
    let ask = running.node.ask(Request::Workers, false);
    assert!(tokio::time::timeout(Duration::from_millis(20), ask).await.is_err());
    // The next answer says that everything before it was fed.
    running.node.ask(Request::Barrier, false).await.expect("the host runs");
    let fed = running.fed.lock().expect("no test panics while it holds this");
    let Input::Ask { ticket, .. } = fed[0] else { panic!("{fed:?}") };
    assert_eq!(fed[1], Input::Abandon { ticket });
}

#[tokio::test]
async fn halt_ends_the_loop_with_its_reason() {
    let running = start();
    let question = Request::Cancel { id: "a".into(), run: None, request: None, retry: false };
    assert!(running.node.ask(question, false).await.is_err());
    let ended = running.ended.await.expect("the host does not panic");
    assert_eq!(ended, Ended::Halted("it was told to".to_owned()));
}

#[tokio::test]
async fn shutdown_is_told_to_the_node_and_ends_the_loop() {
    let running = start();
    running.node.ask(Request::Barrier, false).await.expect("the host runs");
    running.stop.send_replace(true);
    let ended = running.ended.await.expect("the host does not panic");
    assert_eq!(ended, Ended::ShutDown);
    let fed = running.fed.lock().expect("no test panics while it holds this");
    assert_eq!(fed.last(), Some(&Input::Shutdown));
}

#[tokio::test]
async fn sessions_frames_end_when_the_worker_has_gone() {
    let running = start();
    let (session, mut frames) = running.node.open_session().await.expect("the host runs");
    running.node.tell(Input::WorkerGone { session }).await.expect("the host runs");
    assert_eq!(frames.recv().await, None);
}
