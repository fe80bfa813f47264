//! Random lives against a model that keeps only what the protocol promises.

use alloc::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::rng::Rng;

const GUARD: Duration = limits::FENCE_GUARD;

/// What an observer outside knows of an attempt.
#[derive(Debug, Default)]
struct Seen {
    /// Its handler runs.
    running: bool,
    killed: bool,
    /// The sending of the newest answered Hello or heartbeat that covers it.
    lease_from: Instant,
    /// It ended and its report was not acknowledged.
    unacknowledged: bool,
    reported: bool,
}

struct Life {
    bench: Bench,
    rng: Rng,
    next_token: u64,
    attempts: BTreeMap<u64, Seen>,
    started: BTreeSet<u64>,
    /// Sent and unanswered: when, and what was named.
    beats: BTreeMap<u64, (Instant, Vec<Token>)>,
    hello: Option<(Instant, Vec<Token>)>,
    answered: Instant,
    connecting: Option<ConnectionId>,
    connects: u32,
    guarded: Option<Instant>,
}

impl Life {
    fn new(seed: u64) -> Self {
        Self {
            bench: Bench::new(3),
            rng: Rng::new(seed),
            next_token: 1,
            attempts: BTreeMap::new(),
            started: BTreeSet::new(),
            beats: BTreeMap::new(),
            hello: None,
            answered: Instant::default(),
            connecting: None,
            connects: 0,
            guarded: None,
        }
    }

    fn observe(&mut self, effects: Vec<Effect>) {
        let now = self.bench.now.mono;
        for effect in effects {
            match effect {
                Effect::Connect { connection, .. } => {
                    self.connects += 1;
                    self.connecting = Some(connection);
                    (self.hello, self.beats) = (None, BTreeMap::new());
                }
                Effect::Guard { until } => self.guarded = Some(until),
                Effect::StartHandler(assignment) => {
                    let token = assignment.token.0;
                    assert!(self.started.insert(token), "{token} starts twice");
                    let attempt = self.attempts.entry(token).or_default();
                    (attempt.running, attempt.lease_from) = (true, self.answered);
                }
                Effect::SignalHandler { token, signal } => {
                    let attempt = self.attempts.get_mut(&token.0).expect("it was opened");
                    assert!(attempt.running, "{token} is signalled and does not run");
                    attempt.killed |= signal == Signal::Kill;
                }
                Effect::Send { frame: WorkerFrame::Hello(hello), .. } => {
                    self.holds(&hello.tokens);
                    self.hello = Some((now, hello.tokens));
                }
                Effect::Send { frame: WorkerFrame::Heartbeat { seq, tokens }, .. } => {
                    self.holds(&tokens);
                    self.beats.insert(seq, (now, tokens));
                }
                Effect::Send { frame: WorkerFrame::Reports(list), .. } => {
                    for report in list {
                        let attempt = self.attempts.entry(report.token.0).or_default();
                        assert!(!attempt.running, "{} is reported and runs", report.token);
                        (attempt.unacknowledged, attempt.reported) = (true, true);
                    }
                }
                Effect::Send { .. } | Effect::Disconnect { .. } | Effect::Note(_) => {}
                Effect::Done(farewell) => panic!("{farewell:?}"),
            }
        }
        for (token, attempt) in &self.attempts {
            let over = now.since(attempt.lease_from) >= limits::FENCE_KILL;
            // S11 from outside: no handler that is not killed outlives its lease.
            assert!(!attempt.running || attempt.killed || !over, "{token} outlives its lease");
            // And none that the watchdog would let live longer, whatever the worker does.
            let guarded = self.guarded.is_some_and(|until| until <= attempt.lease_from + GUARD);
            assert!(!attempt.running || attempt.killed || guarded, "{token} is not guarded");
        }
        assert!(self.attempts.values().filter(|a| a.running).count() <= 3);
    }

    /// Whatever runs or is not acknowledged is named (P7.2, P7.5).
    fn holds(&self, named: &[Token]) {
        for (token, attempt) in &self.attempts {
            if attempt.running || attempt.unacknowledged {
                assert!(named.contains(&Token(*token)), "{token} is omitted");
            }
        }
    }

    fn act(&mut self) {
        let running: Vec<u64> =
            self.attempts.iter().filter(|(_, a)| a.running).map(|(token, _)| *token).collect();
        let joined = self.bench.driver.machine().is_joined();
        let effects = match self.rng.below(12) {
            0..=2 => {
                let wish = self.bench.driver.sleep(self.bench.now).expect("a deadline");
                let span = Duration::from_millis(self.rng.below(4_000)).min(wish);
                self.bench.advance(span)
            }
            3 if self.rng.chance(1, 6) => {
                self.bench.advance(Duration::from_millis(self.rng.below(15_000)))
            }
            4 if self.rng.chance(1, 3) => self.bench.cut(),
            5 | 6 => match (self.connecting.take(), self.hello.take()) {
                (Some(connection), _) => {
                    self.bench.connection = connection;
                    self.bench.say(Input::Connected { connection })
                }
                (None, Some((sent, named))) => self.welcome(sent, named),
                (None, None) => vec![],
            },
            7 if joined => {
                let fresh = self.next_token + self.rng.below(3);
                self.next_token = fresh + 1;
                let again = 1 + self.rng.below(fresh);
                self.bench.open([fresh, again])
            }
            8 if !running.is_empty() => {
                let token = running[self.rng.below(running.len() as u64) as usize];
                let attempt = self.attempts.get_mut(&token).expect("it runs");
                (attempt.running, attempt.unacknowledged) = (false, true);
                self.bench.succeed(token)
            }
            9 => match self.beats.pop_last() {
                Some((seq, (sent, named))) => {
                    // Answers come in order: older ones have no say after this.
                    self.beats.clear();
                    self.renew(seq, sent, named)
                }
                None => vec![],
            },
            10 if joined => {
                let token = Token(1 + self.rng.below(self.next_token + 2));
                self.bench.hear(LeaderFrame::Stop { token, why: StopWhy::Cancelled })
            }
            _ => self.acknowledge(),
        };
        self.observe(effects);
    }

    fn welcome(&mut self, sent: Instant, named: Vec<Token>) -> Vec<Effect> {
        self.answered = sent;
        let extends = self.extend(sent, named);
        self.bench.welcome(extends)
    }

    fn renew(&mut self, seq: u64, sent: Instant, named: Vec<Token>) -> Vec<Effect> {
        if !self.bench.driver.machine().is_joined() {
            return vec![];
        }
        self.answered = sent;
        let extends = self.extend(sent, named);
        self.bench.hear(LeaderFrame::Renewed { seq, extends })
    }

    /// Extends most of what was named; a result that is not extended is forgotten.
    fn extend(&mut self, sent: Instant, mut named: Vec<Token>) -> Vec<Token> {
        named.retain(|token| {
            let extended = self.rng.chance(9, 10);
            if let Some(attempt) = self.attempts.get_mut(&token.0) {
                if extended {
                    // A handler that is already lost when the answer comes is not revived by it.
                    attempt.lease_from = attempt.lease_from.max(sent);
                } else if !attempt.running {
                    attempt.unacknowledged = false;
                }
            }
            extended
        });
        named
    }

    fn acknowledge(&mut self) -> Vec<Effect> {
        if !self.bench.driver.machine().is_joined() {
            return vec![];
        }
        let done: Vec<u64> =
            self.attempts.iter().filter(|(_, a)| a.reported).map(|(token, _)| *token).collect();
        for token in &done {
            if let Some(attempt) = self.attempts.get_mut(token) {
                (attempt.unacknowledged, attempt.reported) = (false, false);
            }
        }
        let ranges = done.into_iter().map(|token| (Token(token), Token(token))).collect();
        self.bench.hear(LeaderFrame::Acknowledged(ranges))
    }
}

#[test]
fn no_random_life_breaks_a_promise() {
    let mut started = 0;
    for seed in 0..150 {
        let mut life = Life::new(seed);
        let begin = life.bench.now.mono;
        let effects = life.bench.wake();
        life.observe(effects);
        for _ in 0..400 {
            life.act();
        }
        let seconds = life.bench.now.mono.since(begin).as_secs() as u32;
        assert!(life.connects <= 50 + 20 * seconds, "seed {seed}: {} connects", life.connects);
        started += life.started.len();
    }
    assert!(started > 1_000, "only {started} attempts in 150 lives");
}
