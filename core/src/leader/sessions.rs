//! Workers' connections to the leader (P7.2, P7.3): who is there, what may run where, and what
//! has to be said to whom when the turn ends.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::id::{InstanceId, SessionId, Token};
use crate::limits;
use crate::machine::Outbox;
use crate::node::io::Effect;
use crate::node::request::WorkerView;
use crate::time::Instant;
use crate::worker::{Assignment, Hello, LeaderFrame};

/// Attempts in one frame: some hundreds, so that its cost is spread (datapath "Threads").
const OPENS_PER_FRAME_MAX: usize = 256;
/// Payload bytes in one frame of attempts: well below `limits::MESSAGE_BYTES_MAX`.
const OPEN_BYTES_PER_FRAME_MAX: usize = 2 << 20;

/// A worker that has missed two heartbeats and a half gets nothing new.
const SILENCE_MAX: Duration =
    Duration::from_millis(limits::LEASE_HEARTBEAT.as_millis() as u64 * 5 / 2);

/// One life of a worker's connection.
#[derive(Debug)]
pub struct Session {
    /// Its introduction; `hello.tokens` is taken when it is answered.
    pub hello: Hello,
    /// It was answered with Welcome and may get attempts.
    pub active: bool,
    /// A ReadIndex round begun after its Hello has confirmed it (P7.3).
    pub confirmed: bool,
    /// When its last frame arrived.
    pub heard: Instant,
    opens: Vec<Assignment>,
    acks: Vec<Token>,
    frames: Vec<LeaderFrame>,
}

/// What one life of a worker process carries: kept while it has attempts, with or without a
/// session.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Open attempts.
    pub running: u32,
    /// Slots promised by commands in flight (P2.3).
    pub promised: u32,
}

/// All sessions of one leadership.
#[derive(Debug, Default)]
pub struct Sessions {
    sessions: BTreeMap<SessionId, Session>,
    /// The newest session of each instance.
    by_instance: BTreeMap<InstanceId, SessionId>,
    loads: BTreeMap<InstanceId, Load>,
    /// Sessions with something to say, each once.
    talkative: Vec<SessionId>,
}

impl Sessions {
    /// Takes a Hello in. An older session of the same instance ends; a Hello that is out of
    /// bounds is refused for good.
    pub fn hello(
        &mut self,
        now: Instant,
        id: SessionId,
        hello: Hello,
        out: &mut Outbox<Effect>,
    ) -> bool {
        if let Some(reason) = self.objection(&hello) {
            out.push(Effect::ToWorker { session: id, frame: LeaderFrame::Refused { reason } });
            out.push(Effect::CloseSession { session: id });
            return false;
        }
        if let Some(older) = self.by_instance.insert(hello.instance, id)
            && older != id
            && self.sessions.remove(&older).is_some()
        {
            out.push(Effect::CloseSession { session: older });
        }
        let session = Session {
            hello,
            active: false,
            confirmed: false,
            heard: now,
            opens: Vec::new(),
            acks: Vec::new(),
            frames: Vec::new(),
        };
        self.sessions.insert(id, session);
        true
    }

    /// A connection ended. Its leases go on until they end by themselves.
    pub fn gone(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(&id)
            && self.by_instance.get(&session.hello.instance) == Some(&id)
        {
            self.by_instance.remove(&session.hello.instance);
        }
    }

    /// One session.
    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// One session, to change.
    pub fn session_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        self.sessions.get_mut(&id)
    }

    /// The newest session of an instance.
    pub fn of(&self, instance: InstanceId) -> Option<SessionId> {
        self.by_instance.get(&instance).copied()
    }

    /// Every session, oldest id first.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// What an instance carries.
    pub fn load(&self, instance: InstanceId) -> Load {
        self.loads.get(&instance).copied().unwrap_or_default()
    }

    /// An attempt of the instance opened.
    pub fn opened(&mut self, instance: InstanceId) {
        self.loads.entry(instance).or_default().running += 1;
    }

    /// An attempt of the instance ended.
    pub fn closed(&mut self, instance: InstanceId) {
        self.change(instance, |load| load.running = load.running.saturating_sub(1));
    }

    /// A slot was promised to a command.
    pub fn promise(&mut self, instance: InstanceId) {
        self.loads.entry(instance).or_default().promised += 1;
    }

    /// The command was answered, or lost.
    pub fn unpromise(&mut self, instance: InstanceId) {
        self.change(instance, |load| load.promised = load.promised.saturating_sub(1));
    }

    /// Slots of a session that may be given away: none of a worker that has been silent for a
    /// while, since its leases are about to end.
    pub fn free(&self, now: Instant, session: &Session) -> u32 {
        let silent = session.heard + SILENCE_MAX <= now;
        if !session.active || session.hello.draining || silent {
            return 0;
        }
        let load = self.load(session.hello.instance);
        session.hello.slots.saturating_sub(load.running).saturating_sub(load.promised)
    }

    /// Says at the turn's end: run this.
    pub fn send_open(&mut self, id: SessionId, assignment: Assignment) {
        self.say(id, |session| session.opens.push(assignment));
    }

    /// Says at the turn's end: this report is settled.
    pub fn send_ack(&mut self, id: SessionId, token: Token) {
        self.say(id, |session| session.acks.push(token));
    }

    /// Says this at the turn's end, after attempts and acknowledgements.
    pub fn send(&mut self, id: SessionId, frame: LeaderFrame) {
        self.say(id, |session| session.frames.push(frame));
    }

    /// Emits what there is to say.
    pub fn flush(&mut self, out: &mut Outbox<Effect>) {
        for id in core::mem::take(&mut self.talkative) {
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            // A Welcome names the session and so goes before anything else.
            let welcome = |frame: &LeaderFrame| matches!(frame, LeaderFrame::Welcome { .. });
            if session.frames.first().is_some_and(welcome) {
                let frame = session.frames.remove(0);
                out.push(Effect::ToWorker { session: id, frame });
            }
            for frame in open_frames(core::mem::take(&mut session.opens)) {
                out.push(Effect::ToWorker { session: id, frame });
            }
            if !session.acks.is_empty() {
                let ranges = ranges(core::mem::take(&mut session.acks));
                out.push(Effect::ToWorker {
                    session: id,
                    frame: LeaderFrame::Acknowledged(ranges),
                });
            }
            for frame in session.frames.drain(..) {
                out.push(Effect::ToWorker { session: id, frame });
            }
        }
    }

    /// Connected workers, by name.
    pub fn views(&self, now: Instant) -> Vec<WorkerView> {
        let mut views: Vec<WorkerView> = self
            .sessions
            .values()
            .map(|session| WorkerView {
                name: session.hello.name.clone(),
                instance: session.hello.instance.0,
                slots: session.hello.slots,
                running: self.load(session.hello.instance).running,
                kinds: session.hello.kinds.clone(),
                queues: session.hello.queues.clone(),
                labels: session.hello.labels.clone(),
                draining: session.hello.draining,
                connected: true,
                silent_ms: u64::try_from(now.since(session.heard).as_millis()).unwrap_or(u64::MAX),
            })
            .collect();
        views.sort_by(|a, b| (&a.name, a.instance).cmp(&(&b.name, b.instance)));
        views
    }

    fn say(&mut self, id: SessionId, add: impl FnOnce(&mut Session)) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let silent =
            session.opens.is_empty() && session.acks.is_empty() && session.frames.is_empty();
        add(session);
        if silent {
            self.talkative.push(id);
        }
    }

    fn change(&mut self, instance: InstanceId, change: impl FnOnce(&mut Load)) {
        let Some(load) = self.loads.get_mut(&instance) else { return };
        change(load);
        if load.running == 0 && load.promised == 0 {
            self.loads.remove(&instance);
        }
    }

    fn objection(&self, hello: &Hello) -> Option<Box<str>> {
        let name_chars = hello.name.chars().count();
        if name_chars == 0 || name_chars > limits::NAME_CHARS_MAX {
            return Some(
                alloc::format!(
                    "name: {name_chars} characters; 1 to {} fit",
                    limits::NAME_CHARS_MAX
                )
                .into(),
            );
        }
        if hello.slots > limits::WORKER_SLOTS_MAX {
            return Some(
                alloc::format!("slots: {}; at most {}", hello.slots, limits::WORKER_SLOTS_MAX)
                    .into(),
            );
        }
        if self.sessions.len() >= limits::WORKERS_MAX {
            return Some(alloc::format!("{} workers are connected", limits::WORKERS_MAX).into());
        }
        None
    }
}

impl Session {
    /// Whether it runs the type, in the queue.
    pub fn serves(&self, queue: &str, kind: &str) -> bool {
        let serves_queue =
            self.hello.queues.is_empty() || self.hello.queues.iter().any(|own| **own == *queue);
        serves_queue && self.hello.kinds.iter().any(|own| **own == *kind)
    }
}

/// Packs attempts into frames of bounded count and bytes.
fn open_frames(opens: Vec<Assignment>) -> Vec<LeaderFrame> {
    let mut frames = Vec::new();
    let mut frame = Vec::new();
    let mut bytes = 0;
    for assignment in opens {
        let weight = assignment.payload.len();
        let full = frame.len() >= OPENS_PER_FRAME_MAX || bytes + weight > OPEN_BYTES_PER_FRAME_MAX;
        if full && !frame.is_empty() {
            frames.push(LeaderFrame::Open(core::mem::take(&mut frame)));
            bytes = 0;
        }
        bytes += weight;
        frame.push(assignment);
    }
    if !frame.is_empty() {
        frames.push(LeaderFrame::Open(frame));
    }
    frames
}

/// Joins neighbouring tokens into ranges.
fn ranges(mut tokens: Vec<Token>) -> Vec<(Token, Token)> {
    tokens.sort_unstable();
    let mut ranges: Vec<(Token, Token)> = Vec::new();
    for token in tokens {
        match ranges.last_mut() {
            Some((_, last)) if token.0 <= last.0.saturating_add(1) => *last = token,
            _ => ranges.push((token, token)),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_tokens_are_acknowledged_as_ranges() {
        let tokens = [5, 1, 2, 3, 9, 8].map(Token).to_vec();
        let expected = [(Token(1), Token(3)), (Token(5), Token(5)), (Token(8), Token(9))].to_vec();
        assert_eq!(ranges(tokens), expected);
    }
}
