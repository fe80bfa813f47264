//! States that are not the log's (P5.3): a bit flips between the network and the log of one node, or
//! of so many that no majority is right. What such a node must not do once it knows is judged here.

use bytes::Bytes;
use dtask_core::consensus::{Body, Envelope};
use dtask_core::node::{Rejection, Reply, Request, TaskFilter};
use dtask_core::worker::LeaderFrame;

use super::World;
use super::event::{Event, Fault};
use super::odd::{BOUND_MICROS, Kind, Odd};
use super::trace::Probe;
use crate::check::{Verdict, Violation, hold};

/// A node that knows that its state is wrong is left without its leader for this long.
const LEADERLESS_MICROS: u64 = 4_000_000;
/// A split is looked at for this long after everybody must know of it.
const SPLIT_MICROS: u64 = 8_000_000;
/// Between two looks for a moment at which a split may begin.
const RETRY_MICROS: u64 = 1_000_000;
/// The payload of tasks that a node with a wrong memory does not remember as they are.
pub const FRAGILE: &[u8] = b"a payload that is easily mistaken";

impl World {
    /// Both followers go wrong, each in its own way; or one is gone for good and the other goes
    /// wrong. Nothing is dispatched from there on, so what is due has ended before.
    pub(super) fn states_split(&mut self, leader: Option<usize>) {
        let (Some(leader), true) = (leader, self.has_settled()) else {
            self.agenda.push(self.at + RETRY_MICROS, Event::Fault(Fault::Odd));
            return;
        };
        let (first, second) = ((leader + 1) % 3, (leader + 2) % 3);
        self.note(first as u32 + 1, "memory goes wrong", [0, 0, 0]);
        let also = self.rng.odd.chance(1, 2).then_some(second);
        if also.is_some() {
            self.note(second as u32 + 1, "memory goes wrong", [0, 0, 0]);
        } else {
            self.node_crash(second, false);
            // Its life is over for good.
            self.nodes[second].life += 1;
        }
        if let Some(odd) = &mut self.odd {
            odd.struck = Some((first, self.at));
            odd.also = also;
        }
    }

    /// A message on its way into a node: what it says of fragile tasks is mistaken by the odd one.
    pub(super) fn mistake(&mut self, who: usize, envelope: &mut Envelope) {
        let Some(odd) = &mut self.odd else { return };
        let Some(bit) = odd.flips(who) else { return };
        let Body::Raft(messages) = &mut envelope.body else { return };
        for entry in messages.iter_mut().flat_map(|message| &mut message.entries) {
            let place = entry.data.windows(FRAGILE.len()).position(|window| window == FRAGILE);
            if let Some(place) = place {
                let mut data = entry.data.to_vec();
                data[place] ^= bit;
                entry.data = Bytes::from(data);
                odd.flipped.get_or_insert(self.at);
            }
        }
    }

    /// Whether this node's state may be another one than the log's.
    pub(super) fn is_mistaken(&self, who: usize) -> bool {
        self.odd.is_some_and(|odd| odd.flipped.is_some() && odd.flips(who).is_some())
    }

    /// A node has installed a snapshot.
    pub(super) fn mistakes_are_gone(&mut self, who: usize) {
        if let Some(odd) = &mut self.odd
            && odd.flipped.is_some()
            && odd.flips(who).is_some()
        {
            odd.restored = true;
        }
    }

    /// Whether no majority is right.
    pub(super) fn is_split(&self) -> bool {
        self.odd.is_some_and(|odd| odd.kind == Kind::Split)
    }

    /// Whether this node has said that its state is wrong.
    fn knows_it_is_wrong(&self, who: usize) -> bool {
        self.odd.and_then(|odd| odd.told).is_some_and(|(node, _)| node == who)
    }

    /// A node says that its state is wrong.
    pub(super) fn told_of_divergence(&mut self, who: usize) {
        if !self.is_mistaken(who) {
            self.fail("S6", format!("node {} takes its state for wrong", who + 1));
            return;
        }
        let Some(odd) = &mut self.odd else { return };
        odd.told = Some((who, self.at));
        if odd.kind == Kind::Split {
            return;
        }
        self.probes.hit(Probe::Diverged);
        // The others elect somebody; a node that is told never leads.
        let mut others = (0..self.config.nodes).filter(|&node| node != who);
        if let Some(leader) = others.find(|&node| self.nodes[node].leads_since.is_some()) {
            self.node_crash(leader, false);
            let back = self.at + LEADERLESS_MICROS;
            self.agenda.push(back, Event::Fault(Fault::Restart(leader)));
        }
    }

    /// L9: once it knows, a node with a wrong state does not lead.
    pub(super) fn l9_a_wrong_state_does_not_lead(&self, who: usize) -> Verdict {
        let knows = self.knows_it_is_wrong(who);
        hold!("L9", !knows, "node {} leads although it knows that its state is wrong", who + 1);
        Ok(())
    }

    /// L9: once it knows, a node with a wrong state says of it no more than that it is elsewhere.
    pub(super) fn l9_a_wrong_state_answers_nothing(
        &mut self,
        who: usize,
        request: &Request,
        reply: &Reply,
    ) -> Verdict {
        if !self.knows_it_is_wrong(who) {
            return Ok(());
        }
        let silent = match reply {
            Reply::Rejected(rejection) => matches!(
                rejection,
                Rejection::NotLeader { .. }
                    | Rejection::NoLeader
                    | Rejection::Unavailable { .. }
                    | Rejection::OutcomeUnknown
            ),
            Reply::Cluster(_) => true,
            Reply::Submitted(_)
            | Reply::Task(_)
            | Reply::Claimed
            | Reply::Tasks { .. }
            | Reply::Attempts { .. }
            | Reply::NotLive { .. }
            | Reply::Repeated { .. }
            | Reply::Output { .. }
            | Reply::Workers(_)
            | Reply::Applied { .. } => false,
        };
        hold!(
            "L9",
            silent,
            "node {} answers {request:?} although it knows that its state is wrong: {reply:?}",
            who + 1
        );
        Ok(())
    }

    /// L9: once it knows, a node with a wrong state takes no worker's session.
    pub(super) fn l9_a_wrong_state_takes_no_session(
        &self,
        who: usize,
        frame: &LeaderFrame,
    ) -> Verdict {
        let away = matches!(frame, LeaderFrame::NotLeader { .. });
        hold!(
            "L9",
            away || !self.knows_it_is_wrong(who),
            "node {} says {frame:?} to a worker although it knows that its state is wrong",
            who + 1
        );
        Ok(())
    }

    /// L9: a node learns in time that its state is wrong. True once there is nothing more to see.
    pub(super) fn l9_a_wrong_state_is_told(
        &mut self,
        who: usize,
        odd: &Odd,
    ) -> Result<bool, Violation> {
        let struck = odd.struck.map_or(0, |(_, since)| since);
        let flipped = odd.flipped.unwrap_or(struck + BOUND_MICROS);
        hold!(
            "L9",
            odd.told.is_some() || self.at < flipped + BOUND_MICROS,
            "node {} does not know {} s after it was struck that its state is wrong",
            who + 1,
            (self.at - struck) / 1_000_000
        );
        self.ask_the_odd_one(who);
        Ok(odd.told.is_some_and(|(_, told)| self.at - told > 2 * LEADERLESS_MICROS))
    }

    /// L9: where no majority is right, nothing is dispatched. True once there is nothing more to
    /// see.
    pub(super) fn l9_a_split_cluster_dispatches_nothing(&mut self) -> Result<bool, Violation> {
        let opened = self.chain.state().attempts_opened();
        let Some(odd) = &mut self.odd else { return Ok(true) };
        if odd.restored {
            return Ok(true);
        }
        let Some(known) = odd.flipped.map(|flipped| flipped + BOUND_MICROS) else {
            return Ok(false);
        };
        if self.at < known {
            return Ok(false);
        }
        let before = *odd.opened.get_or_insert(opened);
        hold!(
            "L9",
            opened == before,
            "{} attempts are opened although no majority agrees on a state",
            opened - before
        );
        let over = self.at > known + SPLIT_MICROS;
        if over && self.has_fresh_open() {
            self.probes.hit(Probe::Split);
        }
        Ok(over)
    }

    /// Whatever a node is asked by those who believe in it.
    fn ask_the_odd_one(&mut self, node: usize) {
        let Some(odd) = &mut self.odd else { return };
        odd.asked += 1;
        let id: Box<str> = "fresh-0".into();
        let request = match odd.asked % 7 {
            0 => Request::Task { id, stale: true },
            1 => Request::Task { id, stale: false },
            2 => Request::Tasks {
                ids: None,
                filter: TaskFilter::default(),
                cursor: 0,
                limit: 50,
                stale: true,
            },
            3 => Request::Attempts { id, stale: true },
            4 => Request::Wait { id, run: None },
            5 => Request::Workers,
            _ => Request::Barrier,
        };
        if self.knows_it_is_wrong(node) {
            self.probes.hit(Probe::DivergedAsked);
        }
        self.aside(node, request);
    }
}

impl Odd {
    /// The bit that a node mistakes in what it hears, if it was struck so.
    fn flips(&self, who: usize) -> Option<u8> {
        match self.kind {
            Kind::Clock | Kind::Disk => None,
            Kind::State | Kind::Split if self.struck.is_some_and(|(node, _)| node == who) => {
                Some(1)
            }
            Kind::State | Kind::Split => (self.also == Some(who)).then_some(2),
        }
    }
}
