//! A node's machine with a witness: the host drives it as it drives any, and everything that the
//! machine asks for is judged before the host performs it.

use dtask_core::machine::{Deadline, Machine, Outbox};
use dtask_core::node::{Effect, Input, Node};
use dtask_core::time::Now;

use super::books::{Asked, Witness};
use super::clock::at;

/// A node and its witness.
pub struct Observed {
    node: Node,
    place: usize,
    witness: Witness,
    asked: Asked,
    own: Outbox<Effect>,
}

impl Observed {
    /// One life of the node at `place`.
    pub fn new(node: Node, place: usize, witness: Witness) -> Self {
        Self { node, place, witness, asked: Asked::new(), own: Outbox::new() }
    }
}

impl Machine for Observed {
    type Input = Input;
    type Effect = Effect;

    fn step(&mut self, now: Now, input: Input, out: &mut Outbox<Effect>) {
        let name = name(&input);
        match &input {
            Input::Ask { ticket, request, .. } => {
                self.asked.insert(*ticket, (request.clone(), at()));
            }
            Input::Abandon { ticket } => {
                self.asked.remove(ticket);
            }
            _ => {}
        }
        self.node.step(now, input, &mut self.own);
        let effects: Vec<Effect> = self.own.drain().collect();
        self.witness.books().stepped(self.place, name, &self.node, &effects, &mut self.asked);
        for effect in effects {
            out.push(effect);
        }
    }

    fn next_deadline(&self) -> Option<Deadline> {
        self.node.next_deadline()
    }

    fn wake() -> Input {
        Node::wake()
    }

    fn flush() -> Input {
        Node::flush()
    }
}

const fn name(input: &Input) -> &'static str {
    match input {
        Input::Wake => "wakes",
        Input::Flush => "ends a turn",
        Input::Persisted { .. } => "persisted",
        Input::Peer(_) => "hears a peer",
        Input::PeerUnreachable { .. } => "peer unreachable",
        Input::SnapshotSent { .. } => "snapshot sent",
        Input::SnapshotSaved { .. } => "snapshot saved",
        Input::Ask { .. } => "is asked",
        Input::Abandon { .. } => "abandoned",
        Input::Worker { .. } => "worker frame",
        Input::WorkerGone { .. } => "session gone",
        Input::HistoryReady { .. } => "history ready",
        Input::HistoryStored { .. } => "history stored",
        Input::HistoryFailed => "history failed",
        Input::Shutdown => "is to stop",
    }
}
