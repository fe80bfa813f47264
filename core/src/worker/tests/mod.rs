//! Conversations with a worker, told as facts. The bench below plays leader, handlers and clock.

mod drain;
mod leases;
mod output;
mod random;
mod results;
mod session;
mod stops;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;

use super::*;
use crate::id::{InstanceId, NodeId, RunNumber};
use crate::machine::Driver;
use crate::spec::StopWhy;
use crate::time::Timestamp;

const TTL_MS: u64 = 15_000;

/// A worker and everything around it.
struct Bench {
    driver: Driver<Worker>,
    now: Now,
    connection: ConnectionId,
    session: SessionId,
    /// A connection that was asked for and not made.
    wanted: Option<(ConnectionId, Box<str>)>,
}

impl Bench {
    /// A worker with `slots` slots that knows the servers a, b and c; nothing has happened.
    fn new(slots: u32) -> Self {
        let config = WorkerConfig {
            name: "w1".into(),
            instance: InstanceId(77),
            slots,
            kinds: vec!["exec".into()],
            queues: vec![],
            labels: vec![],
            servers: vec!["a:1".into(), "b:1".into(), "c:1".into()],
        };
        Self {
            driver: Driver::new(Worker::new(config)),
            now: Now { mono: Instant::from_micros(50_000_000), wall: Timestamp::from_seconds(1) },
            connection: ConnectionId(0),
            session: SessionId(0),
            wanted: None,
        }
    }

    /// The same, with a session.
    fn joined(slots: u32) -> Self {
        let mut bench = Self::new(slots);
        bench.join(vec![]);
        bench
    }

    fn wake(&mut self) -> Vec<Effect> {
        self.driver.wake(self.now);
        self.turn()
    }

    fn turn(&mut self) -> Vec<Effect> {
        self.driver.flush(self.now);
        let effects: Vec<Effect> = self.driver.effects().collect();
        for effect in &effects {
            self.wanted = connect(effect.clone()).or(self.wanted.take());
        }
        effects
    }

    fn say(&mut self, input: Input) -> Vec<Effect> {
        self.driver.feed(self.now, input);
        self.turn()
    }

    fn hear(&mut self, frame: LeaderFrame) -> Vec<Effect> {
        self.say(Input::Frame { connection: self.connection, frame })
    }

    fn advance(&mut self, span: Duration) -> Vec<Effect> {
        self.now.mono = self.now.mono + span;
        self.now.wall = self.now.wall + span;
        self.wake()
    }

    /// Lets time pass in the worker's own steps, so that nothing is late; the leader is mute.
    fn live_through(&mut self, span: Duration) -> Vec<(Duration, Effect)> {
        let begin = self.now.mono;
        let mut all = Vec::new();
        for _ in 0..10_000 {
            let left = span.saturating_sub(self.now.mono.since(begin));
            let Some(sleep) = self.driver.sleep(self.now).filter(|sleep| *sleep <= left) else {
                all.extend(self.advance(left).into_iter().map(|e| (span, e)));
                return all;
            };
            let effects = self.advance(sleep);
            let at = self.now.mono.since(begin);
            all.extend(effects.into_iter().map(|effect| (at, effect)));
        }
        panic!("the worker spins: {:?}", self.driver.machine().next_deadline());
    }

    /// Connects where the worker wants to and returns the server and its Hello.
    fn greet(&mut self) -> (Box<str>, Hello) {
        for _ in 0..100 {
            let Some((connection, server)) = self.wanted.take() else {
                let sleep = self.driver.sleep(self.now).expect("it wants to connect");
                self.advance(sleep);
                continue;
            };
            self.connection = connection;
            let effects = self.say(Input::Connected { connection });
            let hello = frames(&effects).into_iter().find_map(|frame| match frame {
                WorkerFrame::Hello(hello) => Some(hello),
                _ => None,
            });
            if let Some(hello) = hello {
                return (server, hello);
            }
        }
        panic!("the worker does not connect");
    }

    fn advance_clock(&mut self, span: Duration) {
        self.now.mono = self.now.mono + span;
        self.now.wall = self.now.wall + span;
    }

    fn welcome(&mut self, extends: Vec<Token>) -> Vec<Effect> {
        self.session = SessionId(self.session.0 + 1);
        self.hear(LeaderFrame::Welcome {
            session: self.session,
            lease_ttl_ms: TTL_MS,
            heartbeat_ms: 3_000,
            extends,
        })
    }

    fn join(&mut self, extends: Vec<Token>) -> (Hello, Vec<Effect>) {
        let (_, hello) = self.greet();
        let effects = self.welcome(extends);
        (hello, effects)
    }

    fn cut(&mut self) -> Vec<Effect> {
        self.say(Input::Disconnected { connection: self.connection })
    }

    fn open(&mut self, tokens: impl IntoIterator<Item = u64>) -> Vec<Effect> {
        self.hear(LeaderFrame::Open(tokens.into_iter().map(assignment).collect()))
    }

    fn succeed(&mut self, token: u64) -> Vec<Effect> {
        self.end(token, Ending::success(Bytes::from_static(b"ok")))
    }

    fn end(&mut self, token: u64, ending: Ending) -> Vec<Effect> {
        self.say(Input::Ended { token: Token(token), ending })
    }
}

fn assignment(token: u64) -> Assignment {
    Assignment {
        token: Token(token),
        task_id: format!("task-{token}").into(),
        task_name: "".into(),
        run: RunNumber(1),
        attempt: 1,
        kind: "exec".into(),
        payload: Bytes::new(),
        scheduled_for: Timestamp::from_seconds(1),
        run_timeout_ms: 3_600_000,
    }
}

fn connect(effect: Effect) -> Option<(ConnectionId, Box<str>)> {
    match effect {
        Effect::Connect { connection, server } => Some((connection, server)),
        _ => None,
    }
}

fn frames(effects: &[Effect]) -> Vec<WorkerFrame> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send { frame, .. } => Some(frame.clone()),
            _ => None,
        })
        .collect()
}

fn reports(effects: &[Effect]) -> Vec<Report> {
    frames(effects)
        .into_iter()
        .flat_map(|frame| match frame {
            WorkerFrame::Reports(list) => list,
            _ => vec![],
        })
        .collect()
}

fn outcomes(effects: &[Effect]) -> Vec<(u64, AttemptOutcome)> {
    reports(effects).into_iter().map(|report| (report.token.0, report.outcome)).collect()
}

fn starts(effects: &[Effect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::StartHandler(assignment) => Some(assignment.token.0),
            _ => None,
        })
        .collect()
}

fn signals(effects: &[Effect]) -> Vec<(u64, Signal)> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::SignalHandler { token, signal } => Some((token.0, *signal)),
            _ => None,
        })
        .collect()
}

/// Signals with the moment of each, in milliseconds.
fn timed_signals(effects: &[(Duration, Effect)]) -> Vec<(u128, u64, Signal)> {
    effects
        .iter()
        .flat_map(|(at, effect)| {
            let list = signals(core::slice::from_ref(effect));
            list.into_iter().map(|(token, signal)| (at.as_millis(), token, signal))
        })
        .collect()
}

fn heartbeats(effects: &[Effect]) -> Vec<(u64, Vec<Token>)> {
    frames(effects)
        .into_iter()
        .filter_map(|frame| match frame {
            WorkerFrame::Heartbeat { seq, tokens } => Some((seq, tokens)),
            _ => None,
        })
        .collect()
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}
