//! A worker that hears arbitrary frames at arbitrary moments, beside handlers that start, write
//! and end, and connections that break. Its promises hold whatever it hears: a token starts at
//! most once, slots bound what runs, what is stopped is killed in time, whatever is held is named.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use arbitrary::{Arbitrary as _, Result, Unstructured};
use bytes::Bytes;
use dtask_core::codec::worker::{decode_leader_frame, encode_leader_frame};
use dtask_core::id::{InstanceId, NodeId, RunNumber, SessionId, Token};
use dtask_core::limits;
use dtask_core::machine::Driver;
use dtask_core::spec::StopWhy;
use dtask_core::time::Timestamp;
use dtask_core::worker::{
    Assignment, ConnectionId, Effect, Ending, Input, LeaderFrame, Signal, Worker, WorkerConfig,
    WorkerFrame,
};
use dtask_proto::v1;
use prost::Message as _;

use crate::host::clock;

const SLOTS: u32 = 3;
/// Steps of one input.
const STEPS_MAX: usize = 200;

/// Lets the bytes play leader, network, handlers and clock.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut life = Life::new();
    life.feed(Input::Wake);
    for _ in 0..STEPS_MAX {
        if u.is_empty() || life.done || life.step(&mut u).is_err() {
            break;
        }
    }
}

struct Life {
    driver: Driver<Worker>,
    micros: u64,
    /// The connection that was asked for last, and whether it stands.
    connection: Option<(ConnectionId, bool)>,
    /// Handlers that run, and whether they were killed.
    running: BTreeMap<u64, bool>,
    started: BTreeSet<u64>,
    /// Reported and not acknowledged, by the worker's own word.
    seq: u64,
    /// The watchdog was told of a deadline.
    guarded: bool,
    done: bool,
}

impl Life {
    fn new() -> Self {
        let config = WorkerConfig {
            name: "w".into(),
            instance: InstanceId(77),
            slots: SLOTS,
            kinds: vec!["exec".into()],
            queues: vec![],
            labels: vec![],
            servers: vec!["a:1".into(), "b:1".into()],
        };
        Self {
            driver: Driver::new(Worker::new(config)),
            micros: 0,
            connection: None,
            running: BTreeMap::new(),
            started: BTreeSet::new(),
            seq: 0,
            guarded: false,
            done: false,
        }
    }

    fn feed(&mut self, input: Input) {
        let now = clock(self.micros);
        self.driver.feed(now, input);
        self.driver.flush(now);
        let effects: Vec<Effect> = self.driver.effects().collect();
        for effect in effects {
            self.effect(effect);
        }
        assert!(self.driver.machine().running() <= SLOTS as usize);
        assert_eq!(self.driver.machine().running(), self.running.len(), "its own count");
        let held: BTreeSet<u64> = self.driver.machine().tokens().iter().map(|t| t.0).collect();
        assert!(self.running.keys().all(|token| held.contains(token)), "P7.5: all are held");
    }

    fn effect(&mut self, effect: Effect) {
        assert!(!self.done, "nothing follows Done: {effect:?}");
        match effect {
            Effect::Connect { connection, .. } => {
                assert!(self.connection.is_none_or(|(older, _)| older < connection));
                self.connection = Some((connection, false));
            }
            Effect::Disconnect { connection } => {
                if self.connection.is_some_and(|(current, _)| current == connection) {
                    self.connection = Some((connection, false));
                }
            }
            Effect::Send { connection, session, frame } => {
                assert_eq!(self.connection, Some((connection, true)), "it sends where it can");
                assert_eq!(session.is_none(), matches!(frame, WorkerFrame::Hello(_)));
                self.sent(&frame);
            }
            Effect::Guard { until } => {
                let now = clock(self.micros).mono;
                assert!(until <= now + limits::FENCE_GUARD, "P7.4: longer than any lease");
                self.guarded = true;
            }
            Effect::StartHandler(assignment) => {
                let token = assignment.token.0;
                assert!(self.guarded, "P7.4: {token} starts unguarded");
                assert!(self.started.insert(token), "P7.5: {token} starts twice");
                self.running.insert(token, false);
            }
            Effect::SignalHandler { token, signal } => {
                let killed = self.running.get_mut(&token.0).expect("it signals what runs");
                *killed |= signal == Signal::Kill;
            }
            Effect::Note(_) => {}
            Effect::Done(_) => {
                assert!(self.running.is_empty(), "it leaves handlers behind");
                self.done = true;
            }
        }
    }

    fn sent(&mut self, frame: &WorkerFrame) {
        match frame {
            WorkerFrame::Hello(hello) => self.names(&hello.tokens),
            WorkerFrame::Heartbeat { seq, tokens } => {
                assert!(*seq > self.seq, "heartbeats are numbered upwards");
                self.seq = *seq;
                self.names(tokens);
            }
            WorkerFrame::Reports(list) => {
                for report in list {
                    assert!(!self.running.contains_key(&report.token.0), "reported while it runs");
                }
            }
            WorkerFrame::Started(_) | WorkerFrame::Output { .. } | WorkerFrame::Draining => {}
        }
    }

    /// P7.2: whatever runs is named.
    fn names(&self, tokens: &[Token]) {
        for token in self.running.keys() {
            assert!(tokens.contains(&Token(*token)), "{token} runs and is not named");
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=15)? {
            0 | 1 => {
                self.micros += u64::from(u16::arbitrary(u)?) * 100;
                self.feed(Input::Wake);
            }
            2 => self.punctual(),
            3 | 4 => {
                if let Some((connection, stands)) = &mut self.connection
                    && !*stands
                {
                    *stands = true;
                    let connection = *connection;
                    self.feed(Input::Connected { connection });
                }
            }
            5 => {
                let connection = ConnectionId(u.int_in_range(0..=4)?);
                let current = self.connection.map_or(connection, |(current, _)| current);
                let connection = if bool::arbitrary(u)? { current } else { connection };
                if current == connection {
                    self.connection = Some((connection, false));
                }
                self.feed(Input::Disconnected { connection });
            }
            6 | 7 => self.end(u)?,
            8 => {
                if let Some((&token, _)) = self.running.first_key_value() {
                    let data = Bytes::from(vec![b'o'; usize::from(u16::arbitrary(u)?)]);
                    self.feed(Input::Output { token: Token(token), data });
                }
            }
            9 => {
                if let Some((&token, _)) = self.running.last_key_value() {
                    self.feed(Input::Started { token: Token(token) });
                }
            }
            10 if u.ratio(1, 4)? => {
                let within = Duration::from_millis(u16::arbitrary(u)?.into());
                self.feed(Input::Drain { within });
            }
            _ => self.frame(u)?,
        }
        Ok(())
    }

    /// A host that wakes in time: what must die is killed at the latest after the fence.
    fn punctual(&mut self) {
        for _ in 0..400 {
            let before = self.micros;
            let wish = self.driver.sleep(clock(self.micros)).unwrap_or(limits::FENCE_KILL);
            self.micros += (wish.as_micros() as u64).clamp(1, 500_000);
            self.feed(Input::Wake);
            assert!(self.micros > before);
            if self.done {
                return;
            }
        }
        let silent = self.micros > 60_000_000 && self.connection.is_none_or(|(_, up)| !up);
        if silent {
            assert!(self.running.values().all(|killed| *killed), "P7.4: it outlives its lease");
        }
    }

    fn end(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let tokens: Vec<u64> = self.running.keys().copied().collect();
        if tokens.is_empty() {
            return Ok(());
        }
        let token = *u.choose(&tokens)?;
        self.running.remove(&token);
        let output = match u8::arbitrary(u)? {
            0 => Bytes::from(vec![0; limits::RESULT_BYTES_MAX + 1]),
            len => Bytes::from(vec![1; len.into()]),
        };
        let ending = if bool::arbitrary(u)? {
            Ending::success(output)
        } else {
            Ending::failure("e", bool::arbitrary(u)?)
        };
        self.feed(Input::Ended { token: Token(token), ending });
        Ok(())
    }

    fn frame(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let Some((connection, true)) = self.connection else { return Ok(()) };
        let frame = match u.int_in_range(0..=12)? {
            0 => {
                let len = usize::from(u8::arbitrary(u)?).min(u.len());
                let message = v1::LeaderToWorker::decode(u.bytes(len)?).ok();
                let Some(frame) = message.and_then(|m| decode_leader_frame(m).ok()) else {
                    return Ok(());
                };
                frame
            }
            1..=3 => LeaderFrame::Welcome {
                session: SessionId(u.int_in_range(1..=3)?),
                lease_ttl_ms: *u.choose(&[15_000, 15_000, 1, 1_000, u64::MAX])?,
                heartbeat_ms: *u.choose(&[3_000, 3_000, 1, u64::MAX])?,
                extends: self.tokens(u)?,
            },
            4..=6 => LeaderFrame::Open(self.assignments(u)?),
            7 | 8 => {
                let seq = if u.ratio(7, 8)? { self.seq } else { u64::arbitrary(u)? };
                LeaderFrame::Renewed { seq, extends: self.tokens(u)? }
            }
            9 => {
                let why = *u.choose(&[StopWhy::Cancelled, StopWhy::TimedOut])?;
                LeaderFrame::Stop { token: token(u)?, why }
            }
            10 => {
                let (a, b) = (token(u)?, token(u)?);
                LeaderFrame::Acknowledged(vec![(a.min(b), a.max(b))])
            }
            11 => LeaderFrame::Follow { token: token(u)?, offset: u64::arbitrary(u)? },
            _ if u.ratio(1, 6)? => LeaderFrame::Refused { reason: "no".into() },
            _ if bool::arbitrary(u)? => LeaderFrame::Unfollow { token: token(u)? },
            _ => LeaderFrame::NotLeader { leader: Some((NodeId(1), "c:1".into())) },
        };
        let wire = encode_leader_frame(frame.clone());
        assert_eq!(decode_leader_frame(wire).as_ref(), Ok(&frame));
        self.feed(Input::Frame { connection, frame });
        Ok(())
    }

    /// Most of what is held, as a leader would extend it.
    fn tokens(&self, u: &mut Unstructured<'_>) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for held in self.driver.machine().tokens() {
            if u.ratio(7, 8)? {
                tokens.push(held);
            }
        }
        if u.ratio(1, 8)? {
            tokens.push(token(u)?);
        }
        Ok(tokens)
    }

    fn assignments(&self, u: &mut Unstructured<'_>) -> Result<Vec<Assignment>> {
        let mut list = Vec::new();
        for _ in 0..u.int_in_range(1..=4)? {
            list.push(Assignment {
                token: token(u)?,
                task_id: "t".into(),
                task_name: "".into(),
                run: RunNumber(1),
                attempt: 1,
                kind: if u.ratio(7, 8)? { "exec".into() } else { "other".into() },
                payload: Bytes::new(),
                scheduled_for: Timestamp::default(),
                run_timeout_ms: *u.choose(&[0, 1, 5_000, u64::MAX])?,
            });
        }
        Ok(list)
    }
}

/// Mostly small, so that tokens meet again.
fn token(u: &mut Unstructured<'_>) -> Result<Token> {
    Ok(Token(match u8::arbitrary(u)? {
        255 => (1 << 53) - 1,
        n => 1 + u64::from(n) % 24,
    }))
}
