//! Which ready run goes to which free slot: decides, touches nothing.
//!
//! Runs of all classes (queue, type) are taken by priority, then by age, as far as a worker that
//! serves the class has a slot; a class without one never holds up another.

use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::sessions::Sessions;
use crate::id::{InstanceId, RecordRef};
use crate::state::{ReadyRun, State};
use crate::time::Instant;

/// A ready run and the worker that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// The run.
    pub target: RecordRef,
    /// The number of the attempt.
    pub attempt: u16,
    /// The worker.
    pub instance: InstanceId,
}

/// The free slots as a plan sees them: promised slots are gone from it as the plan goes on.
#[derive(Debug, Default)]
pub struct Floor {
    servers: Vec<Server>,
    lines: Vec<Line>,
    /// The line that was asked for last: neighbours in a batch are mostly of one class.
    last: usize,
}

#[derive(Debug)]
struct Server {
    session: crate::id::SessionId,
    instance: InstanceId,
    free: u32,
    /// Ready runs may still want its slots.
    wanted: bool,
}

#[derive(Debug)]
struct Line {
    queue: Box<str>,
    kind: Box<str>,
    /// Servers of the class.
    who: Vec<usize>,
    /// Whose turn it is: slots are taken in turns, so that workers fill evenly.
    turn: usize,
}

impl Floor {
    /// The free slots of all sessions.
    pub fn new(now: Instant, sessions: &Sessions) -> Self {
        let servers = sessions.iter().map(|(id, session)| Server {
            session: id,
            instance: session.hello.instance,
            free: sessions.free(now, session),
            wanted: false,
        });
        let servers = servers.filter(|server| server.free > 0).collect();
        Self { servers, lines: Vec::new(), last: 0 }
    }

    /// Whether no slot is free.
    pub fn is_full(&self) -> bool {
        self.servers.iter().all(|server| server.free == 0)
    }

    /// Takes a slot for a run of the class, if one is free.
    pub fn take(&mut self, sessions: &Sessions, queue: &str, kind: &str) -> Option<InstanceId> {
        let line = self.line(sessions, queue, kind);
        self.take_in(line, false)
    }

    /// Takes a slot that no ready run may want: for a run that does not exist yet (P2.2).
    pub fn take_unwanted(
        &mut self,
        sessions: &Sessions,
        queue: &str,
        kind: &str,
    ) -> Option<InstanceId> {
        let line = self.line(sessions, queue, kind);
        self.take_in(line, true)
    }

    /// Marks the slots that ready runs of state may want.
    pub fn mark_wanted(&mut self, state: &State, sessions: &Sessions) {
        for class in state.ready_classes() {
            let line = self.line(sessions, class.queue, class.kind);
            for place in 0..self.lines[line].who.len() {
                let server = self.lines[line].who[place];
                self.servers[server].wanted = true;
            }
        }
    }

    fn line(&mut self, sessions: &Sessions, queue: &str, kind: &str) -> usize {
        let is = |line: &Line| *line.queue == *queue && *line.kind == *kind;
        if self.lines.get(self.last).is_some_and(is) {
            return self.last;
        }
        self.last = match self.lines.iter().position(is) {
            Some(known) => known,
            None => {
                let serves = |server: &Server| {
                    let session = sessions.session(server.session);
                    session.is_some_and(|session| session.serves(queue, kind))
                };
                let who = (0..self.servers.len()).filter(|i| serves(&self.servers[*i])).collect();
                self.lines.push(Line { queue: queue.into(), kind: kind.into(), who, turn: 0 });
                self.lines.len() - 1
            }
        };
        self.last
    }

    fn take_in(&mut self, line: usize, unwanted: bool) -> Option<InstanceId> {
        let Line { who, turn, .. } = &mut self.lines[line];
        for step in 0..who.len() {
            let place = (*turn + step) % who.len();
            let server = &mut self.servers[who[place]];
            if server.free > 0 && !(unwanted && server.wanted) {
                server.free -= 1;
                *turn = place + 1;
                return Some(server.instance);
            }
        }
        None
    }
}

/// Pairs ready runs with free slots, at most `max`. The second value tells whether every run that
/// could be paired was: then no slot left on the floor is wanted.
pub fn pair(
    state: &State,
    sessions: &Sessions,
    floor: &mut Floor,
    max: usize,
) -> (Vec<Pairing>, bool) {
    let mut pairings = Vec::new();
    if floor.is_full() {
        return (pairings, true);
    }
    let mut classes = Vec::new();
    let mut heads = BinaryHeap::new();
    for class in state.ready_classes() {
        let line = floor.line(sessions, class.queue, class.kind);
        if floor.lines[line].who.is_empty() {
            continue;
        }
        let mut runs = state.ready(class.class);
        if let Some(run) = runs.next() {
            heads.push((key(&run), Reverse(classes.len())));
            classes.push((line, run, runs));
        }
    }
    while let Some((_, Reverse(class))) = heads.pop() {
        if pairings.len() >= max {
            return (pairings, false);
        }
        let (line, run, runs) = &mut classes[class];
        let Some(instance) = floor.take_in(*line, false) else { continue };
        pairings.push(Pairing { target: run.target, attempt: run.attempt, instance });
        if let Some(next) = runs.next() {
            heads.push((key(&next), Reverse(class)));
            *run = next;
        }
    }
    (pairings, true)
}

/// Higher priority first, then the run that became ready first.
const fn key(run: &ReadyRun) -> (u8, Reverse<u64>) {
    (run.priority, Reverse(run.sequence))
}
