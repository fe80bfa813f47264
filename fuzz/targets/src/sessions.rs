//! A leader that hears arbitrary frames from its workers' sessions, beside callers, clocks and a
//! database: frames in any order, of instances and tokens that are known or not. Slots bound what
//! is given to an instance, a token is given to one instance alone, the state stays consistent.

use std::collections::BTreeMap;

use arbitrary::{Arbitrary as _, Result, Unstructured};
use bytes::Bytes;
use dtask_core::codec::worker::{
    decode_leader_frame, decode_worker_frame, encode_leader_frame, encode_worker_frame,
};
use dtask_core::id::{InstanceId, SessionId, Ticket, Token};
use dtask_core::node::{Input, Node, Request};
use dtask_core::spec::{AttemptOutcome, Draft};
use dtask_core::state::Wish;
use dtask_core::time::Timestamp;
use dtask_core::worker::{Hello, LeaderFrame, Report, WorkerFrame};
use dtask_proto::v1;
use prost::Message as _;

use crate::host::{Host, Said, clock};

/// Steps of one input.
const STEPS_MAX: usize = 120;

/// A cluster of one is led; then the bytes speak.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut bench = Bench::new();
    for _ in 0..STEPS_MAX {
        if u.is_empty() || bench.step(&mut u).is_err() {
            break;
        }
    }
    bench.settle();
    bench.node().state().audit().expect("consistent whatever workers say");
}

struct Bench {
    host: Host,
    micros: u64,
    next: u64,
    /// The instance that a session introduced.
    sessions: BTreeMap<SessionId, InstanceId>,
    /// P7.2: whom a token was given to.
    given: BTreeMap<Token, InstanceId>,
}

impl Bench {
    fn new() -> Self {
        let mut host = Host::new(1, 1);
        host.start().expect("an empty disk");
        let mut bench =
            Self { host, micros: 0, next: 0, sessions: BTreeMap::new(), given: BTreeMap::new() };
        for _ in 0..60 {
            bench.micros += 50_000;
            bench.turn(vec![Input::Wake]);
            bench.settle();
            if bench.node().is_leading() {
                return bench;
            }
        }
        panic!("a node alone does not lead");
    }

    fn node(&self) -> &Node {
        self.host.node().expect("it does not halt")
    }

    fn turn(&mut self, inputs: Vec<Input>) {
        let said = self.host.turn(clock(self.micros), inputs);
        self.hear(said);
    }

    /// Everything that waits for the disk or the database goes on.
    fn settle(&mut self) {
        for _ in 0..3 {
            let inputs = self.host.sync();
            self.turn(inputs);
            let inputs = self.host.history();
            self.turn(inputs);
        }
    }

    fn hear(&mut self, said: Said) {
        assert_eq!(said.halted, None);
        for (session, frame) in said.frames {
            let wire = encode_leader_frame(frame.clone());
            assert_eq!(decode_leader_frame(wire).as_ref(), Ok(&frame), "a worker reads it");
            if let LeaderFrame::Open(list) = frame {
                let instance = *self.sessions.get(&session).expect("it introduced itself");
                for assignment in list {
                    let first = *self.given.entry(assignment.token).or_insert(instance);
                    assert_eq!(first, instance, "P7.2: {} has two owners", assignment.token);
                    let open = self.node().state().open_attempt(assignment.token);
                    let open = open.expect("P7.2: agreed before the worker hears of it");
                    assert_eq!(open.instance, instance);
                }
            }
        }
        for session in said.closed {
            self.sessions.remove(&session);
        }
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=11)? {
            0 => {
                self.micros += u64::from(u16::arbitrary(u)?) * 100;
                self.turn(vec![Input::Wake]);
            }
            1 | 2 => self.settle(),
            3 | 4 => self.submit(u)?,
            5 => {
                let session = SessionId(u.int_in_range(1..=5)?);
                self.sessions.remove(&session);
                self.turn(vec![Input::WorkerGone { session }]);
            }
            6 => {
                let id = format!("t{}", u.int_in_range(0..=8)?).into();
                let ticket = self.ticket();
                let request = match u.int_in_range(0..=4)? {
                    0 => Request::Cancel { id, run: None, request: None, retry: false },
                    1 => Request::Delete { id, cancel: bool::arbitrary(u)?, past: None },
                    2 => Request::Follow { id, token: None, offset: u64::arbitrary(u)? },
                    3 => {
                        let wish =
                            if bool::arbitrary(u)? { Wish::RetryLatest } else { Wish::Trigger };
                        Request::Trigger { id, wish, request: None, retry: false, past: None }
                    }
                    _ => Request::Workers,
                };
                self.turn(vec![Input::Ask { ticket, request, forwarded: false }]);
            }
            7 => {
                let (epoch, through) = (u.int_in_range(0..=2)?, u.int_in_range(0..=40)?);
                let input = match u.int_in_range(0..=2)? {
                    0 => Input::HistoryReady { epoch, through },
                    1 => Input::HistoryStored { epoch, through },
                    _ => Input::HistoryFailed,
                };
                self.turn(vec![input]);
            }
            _ => {
                let session = SessionId(u.int_in_range(1..=5)?);
                let frame = self.frame(u)?;
                // As the shell does: what the decoder does not take ends the session.
                let wire = encode_worker_frame(Some(session), frame);
                let Ok((_, frame)) = decode_worker_frame(wire) else { return Ok(()) };
                if let WorkerFrame::Hello(hello) = &frame {
                    self.sessions.entry(session).or_insert(hello.instance);
                }
                self.turn(vec![Input::Worker { session, frame }]);
            }
        }
        self.slots();
        Ok(())
    }

    /// No instance runs more than the most slots that any of its Hellos may name.
    fn slots(&self) {
        let mut running: BTreeMap<InstanceId, u32> = BTreeMap::new();
        for open in self.node().state().open_attempts() {
            *running.entry(open.instance).or_default() += 1;
        }
        assert!(running.values().all(|count| *count <= 4), "beyond the slots: {running:?}");
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    fn submit(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let id = format!("t{}", u.int_in_range(0..=8)?);
        let payload = Bytes::from_static(b"p");
        let every_ms = if u.ratio(1, 6)? { Some(1_000) } else { None };
        let kind = *u.choose(&["a", "a", "b"])?;
        let queue = *u.choose(&["", "", "q"])?;
        let max_retries = Some(u.int_in_range(0..=2)?);
        let draft =
            Draft { id: &id, kind, queue, payload, every_ms, max_retries, ..Draft::default() };
        let request = Request::Submit(vec![draft.check().expect("a valid task")]);
        let ticket = self.ticket();
        self.turn(vec![Input::Ask { ticket, request, forwarded: false }]);
        Ok(())
    }

    fn frame(&self, u: &mut Unstructured<'_>) -> Result<WorkerFrame> {
        Ok(match u.int_in_range(0..=9)? {
            0..=2 => WorkerFrame::Hello(Hello {
                name: "w".into(),
                instance: InstanceId(u.int_in_range(1..=3)?),
                slots: u.int_in_range(1..=4)?,
                kinds: vec!["a".into()],
                queues: if bool::arbitrary(u)? { vec![] } else { vec!["q".into()] },
                labels: vec![],
                tokens: self.tokens(u)?,
                draining: u.ratio(1, 8)?,
            }),
            3 | 4 => {
                WorkerFrame::Heartbeat { seq: u.int_in_range(0..=9)?, tokens: self.tokens(u)? }
            }
            5 => WorkerFrame::Started(vec![(
                self.token(u)?,
                Timestamp::from_micros(i64::arbitrary(u)?),
            )]),
            6 | 7 => WorkerFrame::Reports(vec![self.report(u)?]),
            8 => {
                if u.ratio(1, 6)? {
                    WorkerFrame::Draining
                } else {
                    let data = Bytes::from_static(b"out");
                    let (offset, end) = (u64::arbitrary(u)?, bool::arbitrary(u)?);
                    WorkerFrame::Output { token: self.token(u)?, offset, data, end }
                }
            }
            _ => {
                let len = usize::from(u8::arbitrary(u)?).min(u.len());
                let message = v1::WorkerToLeader::decode(u.bytes(len)?).ok();
                let decoded = message.and_then(|message| decode_worker_frame(message).ok());
                match decoded {
                    // Its slots would not be bounded by this target's count.
                    Some((_, WorkerFrame::Hello(_))) | None => WorkerFrame::Draining,
                    Some((_, frame)) => frame,
                }
            }
        })
    }

    fn report(&self, u: &mut Unstructured<'_>) -> Result<Report> {
        let outcomes = [
            AttemptOutcome::Succeeded,
            AttemptOutcome::Succeeded,
            AttemptOutcome::Failed,
            AttemptOutcome::TimedOut,
            AttemptOutcome::Lost,
            AttemptOutcome::Cancelled,
            AttemptOutcome::Interrupted,
        ];
        Ok(Report {
            token: self.token(u)?,
            outcome: *u.choose(&outcomes)?,
            started_at: Some(Timestamp::from_micros(i64::arbitrary(u)?)),
            finished_at: if bool::arbitrary(u)? { Some(Timestamp::MAX) } else { None },
            exit_code: *u.choose(&[None, Some(0), Some(i32::MIN)])?,
            retryable: bool::arbitrary(u)?,
            output: Bytes::from_static(b"result"),
            error: "e".into(),
            tail: Bytes::from_static(b"tail"),
        })
    }

    /// Mostly one that is open.
    fn token(&self, u: &mut Unstructured<'_>) -> Result<Token> {
        let open: Vec<Token> =
            self.node().state().open_attempts().take(16).map(|open| open.token).collect();
        if !open.is_empty() && u.ratio(7, 8)? {
            return Ok(*u.choose(&open)?);
        }
        Ok(Token(u.int_in_range(1..=20)?))
    }

    fn tokens(&self, u: &mut Unstructured<'_>) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for open in self.node().state().open_attempts().take(16) {
            if u.ratio(3, 4)? {
                tokens.push(open.token);
            }
        }
        if u.ratio(1, 4)? {
            tokens.push(self.token(u)?);
        }
        Ok(tokens)
    }
}
