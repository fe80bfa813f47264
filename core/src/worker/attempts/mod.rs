//! All attempts that the worker holds: running, or ended and not acknowledged.
//!
//! Knows nothing of connections. What leaves at the end of a turn is `outgoing`.

mod outgoing;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::id::Token;
use crate::limits;
use crate::machine::Outbox;
use crate::spec::{AttemptOutcome, StopWhy};
use crate::time::{Instant, Now, Timestamp};
use crate::worker::attempt::{Ended, Fence, Running, outcome_of};
use crate::worker::config::{EARLY_STOPS_MAX, SEEN_RANGES_MAX};
use crate::worker::frame::{Assignment, WorkerFrame};
use crate::worker::io::{Effect, Ending, Note, Signal};
use crate::worker::tokens::SeenTokens;

/// The attempts of a worker.
#[derive(Debug)]
pub(in crate::worker) struct Attempts {
    slots: usize,
    fence: Fence,
    held: BTreeMap<Token, Held>,
    running: usize,
    /// What the watchdog was told last; `None` while nothing runs.
    guarded: Option<Instant>,
    /// An attempt has ended or its lease has moved since.
    unguarded: bool,
    /// When time alone asks for something, by attempt; one entry for each that has such a time.
    due: BTreeSet<(Instant, Token)>,
    seen: SeenTokens,
    /// Stops of tokens that have not been opened (P7.6).
    early: BTreeMap<Token, StopWhy>,
    /// Handlers whose start is not announced in this session.
    started: Vec<Token>,
    /// Attempts whose report is not sent in this session.
    ended: Vec<Token>,
    /// Last pieces of output, for readers of attempts that have ended.
    last_pieces: Vec<WorkerFrame>,
    /// Attempts whose reader lacks something.
    owing: BTreeSet<Token>,
}

#[derive(Debug)]
enum Held {
    Running(Box<Running>),
    Ended(Box<Ended>),
}

/// What an assignment meets on arrival.
#[derive(Clone, Copy, Debug)]
pub(in crate::worker) struct Arrival {
    /// Its lease counts from here.
    pub(in crate::worker) lease_from: Instant,
    /// The first heartbeat that will name it.
    pub(in crate::worker) named_from: u64,
    /// The worker takes nothing new.
    pub(in crate::worker) draining: bool,
}

impl Attempts {
    pub(in crate::worker) fn new(slots: u32) -> Self {
        Self {
            slots: slots as usize,
            fence: Fence::LIMITS,
            held: BTreeMap::new(),
            running: 0,
            guarded: None,
            unguarded: false,
            due: BTreeSet::new(),
            seen: SeenTokens::new(SEEN_RANGES_MAX),
            early: BTreeMap::new(),
            started: Vec::new(),
            ended: Vec::new(),
            last_pieces: Vec::new(),
            owing: BTreeSet::new(),
        }
    }

    /// Every token that is held, ascending.
    pub(in crate::worker) fn tokens(&self) -> Vec<Token> {
        self.held.keys().copied().collect()
    }

    /// How many attempts are held.
    pub(in crate::worker) fn len(&self) -> usize {
        self.held.len()
    }

    /// How many handlers run.
    pub(in crate::worker) const fn running(&self) -> usize {
        self.running
    }

    /// When time alone asks for something next.
    pub(in crate::worker) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|&(at, _)| at)
    }

    /// Some reader lacks something.
    pub(in crate::worker) fn is_owing(&self) -> bool {
        !self.owing.is_empty()
    }

    /// Starts an assignment, or hands it back.
    pub(in crate::worker) fn open(
        &mut self,
        now: Now,
        assignment: Assignment,
        arrival: Arrival,
        out: &mut Outbox<Effect>,
    ) {
        let token = assignment.token;
        // P7.5: at most once in a life.
        if self.seen.contains(token) {
            return;
        }
        self.seen.insert(token);
        let declined = if let Some(why) = self.early.remove(&token) {
            Some((outcome_of(why), "stopped before it came"))
        } else if arrival.draining {
            Some((AttemptOutcome::Interrupted, "the worker is shutting down"))
        } else if self.running >= self.slots {
            Some((AttemptOutcome::Interrupted, "no free slot"))
        } else if now.mono >= arrival.lease_from + self.fence.term {
            Some((AttemptOutcome::Interrupted, "its lease was over when it came"))
        } else {
            None
        };
        if let Some((outcome, why)) = declined {
            out.push(Effect::Note(Note::Declined { token, why }));
            let ended = Ended::unstarted(token, now.wall, outcome, why, arrival.named_from);
            self.held.insert(token, Held::Ended(Box::new(ended)));
            self.ended.push(token);
            return;
        }
        let running = Running::start(&assignment, now, arrival.lease_from, arrival.named_from);
        self.due.extend(running.due(self.fence).map(|at| (at, token)));
        self.held.insert(token, Held::Running(Box::new(running)));
        self.running += 1;
        // Upholds S11: the watchdog knows the lease before it can hear of the process.
        let until = arrival.lease_from + self.fence.guard;
        if self.guarded.is_none_or(|told| until < told) {
            self.guarded = Some(until);
            out.push(Effect::Guard { until });
        }
        out.push(Effect::StartHandler(Box::new(assignment)));
    }

    /// The handler of `token` has started.
    pub(in crate::worker) fn started(&mut self, now: Timestamp, token: Token) {
        if let Some(Held::Running(running)) = self.held.get_mut(&token)
            && running.started_at.is_none()
        {
            running.started_at = Some(now);
            self.started.push(token);
        }
    }

    /// The handler of `token` wrote something.
    pub(in crate::worker) fn output(&mut self, token: Token, data: &[u8]) {
        if let Some(Held::Running(running)) = self.held.get_mut(&token) {
            running.live.write(data);
            if running.live.is_owing() {
                self.owing.insert(token);
            }
        }
    }

    /// The handler of `token` has ended.
    pub(in crate::worker) fn ended(&mut self, now: Timestamp, token: Token, ending: Ending) {
        let Some(held) = self.held.get_mut(&token) else { return };
        let Held::Running(running) = held else { return };
        if let Some(at) = running.due(self.fence) {
            self.due.remove(&(at, token));
        }
        let report = running.report(token, now, ending);
        let (written, named_from) = (running.live.written(), running.named_from);
        if running.live.is_followed() {
            while let Some(piece) = running.live.next_piece() {
                self.last_pieces.push(WorkerFrame::Output {
                    token,
                    offset: piece.offset,
                    data: piece.data,
                    end: false,
                });
            }
            self.last_pieces.push(outgoing::end_of_output(token, written));
        }
        *held = Held::Ended(Box::new(Ended { report, named_from, sent: false, written }));
        self.running -= 1;
        self.unguarded = true;
        self.owing.remove(&token);
        self.ended.push(token);
    }

    /// The leader wants `token` stopped.
    pub(in crate::worker) fn stop(
        &mut self,
        now: Instant,
        token: Token,
        why: StopWhy,
        out: &mut Outbox<Effect>,
    ) {
        if matches!(self.held.get(&token), Some(Held::Running(_))) {
            self.ask(token, outcome_of(why), now + limits::STOP_GRACE, out);
        } else if !self.seen.contains(token) {
            self.early.insert(token, why);
            if self.early.len() > EARLY_STOPS_MAX {
                self.early.pop_first();
            }
        }
    }

    /// Every running attempt is to end with `outcome`, at the latest at `kill_at`.
    pub(in crate::worker) fn stop_all(
        &mut self,
        outcome: AttemptOutcome,
        kill_at: Instant,
        out: &mut Outbox<Effect>,
    ) {
        for token in self.tokens() {
            self.ask(token, outcome, kill_at, out);
        }
    }

    /// Does what time asks for by `now`.
    pub(in crate::worker) fn expire(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        while let Some(&(at, token)) = self.due.first() {
            if at > now {
                return;
            }
            self.due.pop_first();
            let Some(Held::Running(running)) = self.held.get_mut(&token) else { continue };
            if let Some(expiry) = running.expire(now, self.fence) {
                self.unguarded |= expiry.signal == Signal::Kill;
                if expiry.fenced {
                    out.push(Effect::Note(Note::Fenced { token }));
                }
                out.push(Effect::SignalHandler { token, signal: expiry.signal });
            }
            self.due.extend(running.due(self.fence).map(|at| (at, token)));
        }
    }

    /// Tells the watchdog how long what runs may live without a further word (P7.4): as long as
    /// the attempt whose lease ends first.
    pub(in crate::worker) fn guard(&mut self, out: &mut Outbox<Effect>) {
        if !core::mem::take(&mut self.unguarded) {
            return;
        }
        let running = self.held.values().filter_map(|held| match held {
            Held::Running(running) => running.guarded_until(self.fence),
            Held::Ended(_) => None,
        });
        let first = running.min();
        if let Some(until) = first
            && self.guarded != first
        {
            out.push(Effect::Guard { until });
        }
        // Nothing to guard: the next handler is told of anew.
        self.guarded = first;
    }

    /// A confirmed leader answered what was sent at `sent`: of the attempts named there (those
    /// with `named_from` ≤ `seq`) it extends some; the others are not this worker's any more.
    pub(in crate::worker) fn extend(
        &mut self,
        now: Instant,
        sent: Instant,
        seq: u64,
        mut extends: Vec<Token>,
        out: &mut Outbox<Effect>,
    ) {
        extends.sort_unstable();
        let mut lost = Vec::new();
        self.held.retain(|token, held| {
            let extended = extends.binary_search(token).is_ok();
            match held {
                Held::Running(running) => {
                    if extended {
                        running.lease_from = running.lease_from.max(sent);
                    } else if running.named_from <= seq {
                        lost.push(*token);
                    }
                    true
                }
                Held::Ended(ended) => extended || ended.named_from > seq,
            }
        });
        for token in lost {
            out.push(Effect::Note(Note::Aborted { token }));
            self.ask(token, AttemptOutcome::Lost, now + limits::STOP_GRACE, out);
        }
        self.reindex();
    }

    /// A session stands: leases last as it says, and everything is told anew.
    pub(in crate::worker) fn joined(&mut self, fence: Fence) {
        self.fence = fence;
        self.started.clear();
        self.ended.clear();
        for (&token, held) in &mut self.held {
            match held {
                Held::Running(running) => {
                    self.started.extend(running.started_at.map(|_| token));
                }
                Held::Ended(ended) => {
                    ended.sent = false;
                    self.ended.push(token);
                }
            }
        }
        self.reindex();
    }

    /// The session ended, and with it every reader.
    pub(in crate::worker) fn parted(&mut self) {
        self.last_pieces.clear();
        self.owing.clear();
        for held in self.held.values_mut() {
            if let Held::Running(running) = held {
                running.live.unfollow();
            }
        }
    }

    /// Reports that were sent and lie in these ranges are done with.
    pub(in crate::worker) fn acknowledged(&mut self, ranges: &[(Token, Token)]) {
        for &(first, last) in ranges {
            if first > last {
                continue;
            }
            let done: Vec<Token> = self
                .held
                .range(first..=last)
                .filter(|(_, held)| matches!(held, Held::Ended(ended) if ended.sent))
                .map(|(&token, _)| token)
                .collect();
            for token in done {
                self.held.remove(&token);
            }
        }
    }

    fn ask(
        &mut self,
        token: Token,
        outcome: AttemptOutcome,
        kill_at: Instant,
        out: &mut Outbox<Effect>,
    ) {
        let Some(Held::Running(running)) = self.held.get_mut(&token) else { return };
        if let Some(at) = running.due(self.fence) {
            self.due.remove(&(at, token));
        }
        if running.stop(outcome, kill_at) {
            out.push(Effect::SignalHandler { token, signal: Signal::Term });
        }
        self.due.extend(running.due(self.fence).map(|at| (at, token)));
    }

    fn reindex(&mut self) {
        self.unguarded = true;
        self.due.clear();
        for (&token, held) in &self.held {
            if let Held::Running(running) = held {
                self.due.extend(running.due(self.fence).map(|at| (at, token)));
            }
        }
    }
}
