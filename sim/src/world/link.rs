//! Connections of workers to nodes: made, broken, and noticed late.

use dtask_core::id::SessionId;
use dtask_core::worker::{ConnectionId, Input, LeaderFrame, WorkerFrame};

use super::World;
use super::event::{Event, Life};

/// A connection as both ends know it.
#[derive(Clone, Debug)]
pub struct Link {
    /// The worker's name for it.
    pub connection: ConnectionId,
    /// The node at the other end.
    pub node: Life,
    /// The node's name for it.
    pub session: SessionId,
    /// Frames keep their order: when the last one to the node arrives.
    pub to_node: u64,
    /// … and the last one to the worker.
    pub to_worker: u64,
    /// Frames vanish; both ends will notice.
    pub broken: bool,
}

impl World {
    /// The connection is no more at the worker's side; the node may notice late.
    pub(super) fn worker_unlink(&mut self, who: usize, abrupt: bool) {
        let Some(link) = self.workers[who].link.take() else { return };
        let late = if abrupt && self.rng.net.chance(1, 4) {
            self.rng.net.below(15_000_000)
        } else {
            self.net.delay()
        };
        let at = (self.at + late).max(link.to_node + 1);
        self.agenda.push(at, Event::SessionGone(link.node, link.session));
    }

    /// Both ends learn that the connection broke, each in its time.
    pub(super) fn link_break(&mut self, who: usize) {
        let life = self.workers[who].life;
        let Some(link) = &mut self.workers[who].link else { return };
        if std::mem::replace(&mut link.broken, true) {
            return;
        }
        let (node, session, connection) = (link.node, link.session, link.connection);
        let near = self.at + self.rng.net.below(8_000_000);
        let far = self.at + self.rng.net.below(8_000_000);
        self.agenda.push(near, Event::Disconnected(Life { who, life }, connection));
        self.agenda.push(far, Event::SessionGone(node, session));
    }

    pub(super) fn worker_disconnected(&mut self, who: usize, connection: ConnectionId) {
        let host = &mut self.workers[who];
        host.wanted = host.wanted.filter(|&wanted| wanted != connection);
        if host.link.as_ref().is_some_and(|link| link.connection == connection) {
            host.link = None;
        }
        self.note(101 + who as u32, "disconnected", [connection.0, 0, 0]);
        self.worker_feed(who, Input::Disconnected { connection });
    }

    /// The request travels; a machine that is down or cut off refuses or says nothing.
    pub(super) fn worker_connect(
        &mut self,
        life: Life,
        connection: ConnectionId,
        node: Option<usize>,
    ) {
        let place = self.config.nodes + life.who;
        let there = node.filter(|&node| self.net.passes(self.at, place, node));
        match there {
            Some(node) => {
                let at = self.at + self.net.delay();
                self.agenda.push(at, Event::Connect(life, connection, node));
            }
            None => {
                let at = self.at + 1_000 + self.rng.net.below(3_000_000);
                self.agenda.push(at, Event::Disconnected(life, connection));
            }
        }
    }

    /// A connection request arrives at a node.
    pub(super) fn connect_arrives(&mut self, life: Life, connection: ConnectionId, node: usize) {
        let worker = &self.workers[life.who];
        if worker.life != life.life || worker.wanted != Some(connection) {
            return;
        }
        let at = self.at + self.net.delay();
        if !self.nodes[node].is_up() {
            self.agenda.push(at, Event::Disconnected(life, connection));
            return;
        }
        let host = &mut self.nodes[node];
        host.next_session += 1;
        let session = SessionId(host.next_session);
        host.sessions.insert(session, (life, connection));
        let node = Life { who: node, life: host.life };
        let link = Link { connection, node, session, to_node: 0, to_worker: at, broken: false };
        self.worker_unlink(life.who, false);
        self.workers[life.who].link = Some(link);
        self.agenda.push(at, Event::Connected(life, connection));
    }

    pub(super) fn worker_send(
        &mut self,
        who: usize,
        connection: ConnectionId,
        named: Option<SessionId>,
        frame: WorkerFrame,
    ) {
        let at = self.at + self.net.delay();
        let (place, now) = (self.config.nodes + who, self.at);
        let Some(link) = &mut self.workers[who].link else { return };
        if link.connection != connection || link.broken {
            return;
        }
        let (node, session) = (link.node, link.session);
        if named.is_some_and(|named| named != session) {
            self.fail("P7", format!("worker {} names session {named:?} on {session}", who + 1));
            return;
        }
        if !self.net.passes(now, place, node.who) {
            self.link_break(who);
            return;
        }
        let at = at.max(link.to_node + 1);
        link.to_node = at;
        self.flood_hears_worker(node, &frame);
        self.note(101 + who as u32, worker_frame(&frame), [node.who as u64 + 1, session.0, 0]);
        self.agenda.push(at, Event::ToNode(node, session, Box::new(frame)));
    }
}

/// What a frame from a leader is called in a trace.
pub(super) fn leader_frame(frame: &LeaderFrame) -> &'static str {
    use LeaderFrame as F;
    match frame {
        F::Welcome { .. } => "is welcomed",
        F::NotLeader { .. } => "is redirected",
        F::Refused { .. } => "is refused",
        F::Open(_) => "is given attempts",
        F::Renewed { .. } => "is renewed",
        F::Stop { .. } => "is told to stop one",
        F::Acknowledged(_) => "is acknowledged",
        F::Follow { .. } | F::Unfollow { .. } => "is followed",
    }
}

fn worker_frame(frame: &WorkerFrame) -> &'static str {
    match frame {
        WorkerFrame::Hello(_) => "says hello",
        WorkerFrame::Heartbeat { .. } => "heartbeat",
        WorkerFrame::Started(_) => "says started",
        WorkerFrame::Reports(_) => "reports",
        WorkerFrame::Output { .. } => "sends output",
        WorkerFrame::Draining => "says draining",
    }
}
