//! A node among three that hears arbitrary messages: raft's, introductions, pieces of snapshots,
//! from members and strangers, with numbers near its own and from anywhere. It may refuse, it
//! may halt with a reason, it must not panic.

use std::time::Duration;

use arbitrary::{Arbitrary as _, Result, Unstructured};
use bytes::Bytes;
use dtask_core::codec::peer::decode_envelope;
use dtask_core::consensus::{
    Body, ConfState, Envelope, LogEntry, Mark, RaftMessage, SnapshotMeta, SnapshotPiece, Vitals,
};
use dtask_core::id::{ClusterId, GroupId, Incarnation, NodeId, Ticket};
use dtask_core::node::{Input, Request};
use dtask_core::rng::Rng;
use dtask_core::state::{IndexKey, State};
use dtask_core::time::Timestamp;
use dtask_proto::v1;
use prost::Message as _;

use crate::host::{Host, clock};
use crate::snapshot::walk;

/// Steps of one input.
const STEPS_MAX: usize = 60;

/// Forms a cluster with two peers that exist only here, then lets the bytes speak.
pub(crate) fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut bench = Bench::new();
    for _ in 0..STEPS_MAX {
        if u.is_empty() || bench.step(&mut u).is_err() || bench.host.driver.is_none() {
            break;
        }
    }
    if let Some(node) = bench.host.node() {
        node.state().audit().expect("consistent whatever peers say");
    }
}

struct Bench {
    host: Host,
    micros: u64,
    cluster: Option<ClusterId>,
    rng: Rng,
}

impl Bench {
    fn new() -> Self {
        let mut host = Host::new(1, 3);
        host.start().expect("an empty disk");
        let mut bench = Self { host, micros: 0, cluster: None, rng: Rng::new(3) };
        bench.turn(vec![Input::Wake]);
        for id in [2, 3] {
            let voters = (1..=3).map(NodeId).collect();
            let body = Body::Introduce { voters, ask: false };
            let envelope = bench.envelope(id, body);
            bench.turn(vec![Input::Peer(Box::new(envelope))]);
        }
        for _ in 0..3 {
            bench.sync();
        }
        bench.cluster = bench.host.node().and_then(|node| node.consensus().cluster_id());
        assert!(bench.cluster.is_some(), "three introductions form a cluster");
        bench
    }

    fn envelope(&self, from: u64, body: Body) -> Envelope {
        Envelope {
            group: GroupId(1),
            cluster: self.cluster,
            from: (NodeId(from), Incarnation(from * 100 + 1)),
            to: NodeId(1),
            body,
            vitals: None,
        }
    }

    fn turn(&mut self, inputs: Vec<Input>) {
        let before = self.host.node().map_or(0, |node| node.state().applied_index());
        self.host.turn(clock(self.micros), inputs);
        let after = self.host.node().map_or(u64::MAX, |node| node.state().applied_index());
        assert!(after >= before, "it has unlearned");
    }

    fn sync(&mut self) {
        let inputs = self.host.sync();
        self.turn(inputs);
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=11)? {
            0 => {
                self.micros += u64::from(u16::arbitrary(u)?) * 50;
                self.turn(vec![Input::Wake]);
            }
            1 | 2 => self.sync(),
            3 => {
                let count = usize::from(u8::arbitrary(u)?).min(u.len());
                let message = v1::PeerEnvelope::decode(u.bytes(count)?);
                if let Some(envelope) = message.ok().and_then(|m| decode_envelope(m).ok()) {
                    self.turn(vec![Input::Peer(Box::new(envelope))]);
                }
            }
            4 => {
                let request = Request::Barrier;
                self.turn(vec![Input::Ask { ticket: Ticket(1), request, forwarded: false }]);
            }
            5 => {
                let power = bool::arbitrary(u)?;
                self.host.crash(power.then_some(&mut self.rng));
                self.host.start().expect("the disk kept its promises");
                self.turn(vec![Input::Wake]);
            }
            6 => self.snapshot(u)?,
            _ => {
                let mut messages = Vec::new();
                for _ in 0..u.int_in_range(1..=2)? {
                    messages.push(self.message(u)?);
                }
                let mut envelope = self.envelope(u.int_in_range(2..=3)?, Body::Raft(messages));
                match u8::arbitrary(u)? {
                    255 => envelope.from.1 = Incarnation(u64::arbitrary(u)?),
                    200..=254 => envelope.vitals = Some(Box::new(self.vitals(u)?)),
                    0..=199 => {}
                }
                self.turn(vec![Input::Peer(Box::new(envelope))]);
            }
        }
        Ok(())
    }

    /// A number near the node's own, or any.
    fn number(u: &mut Unstructured<'_>, near: u64) -> Result<u64> {
        Ok(match u8::arbitrary(u)? {
            0..=3 => u64::arbitrary(u)?,
            4..=20 => 0,
            offset => near.saturating_add(u64::from(offset) % 5).saturating_sub(2),
        })
    }

    /// How a peer says that it is: clocks, digests, a slow disk.
    fn vitals(&self, u: &mut Unstructured<'_>) -> Result<Vitals> {
        let near = clock(self.micros).wall.as_micros();
        let wall = if bool::arbitrary(u)? { near } else { i64::arbitrary(u)? };
        let long = |u: &mut Unstructured<'_>| -> Result<Duration> {
            Ok(Duration::from_micros(if bool::arbitrary(u)? { 1_000 } else { u64::arbitrary(u)? }))
        };
        let mut marks = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            let index = u64::from(u8::arbitrary(u)? % 4) * 1_024;
            let level = u.int_in_range(0..=2)?;
            marks.push(Mark { index, level, digest: u128::from(u8::arbitrary(u)?) });
        }
        let mark = Self::number(u, 5)?;
        let echo = if bool::arbitrary(u)? { Some((Self::number(u, 5)?, long(u)?)) } else { None };
        let wall = Timestamp::from_micros(wall);
        Ok(Vitals { wall, mark, echo, marks, sync: long(u)? })
    }

    fn message(&mut self, u: &mut Unstructured<'_>) -> Result<RaftMessage> {
        let consensus = self.host.node().expect("it is up").consensus();
        let (term, last) = (consensus.term(), consensus.last_index());
        let commit = consensus.commit_index();
        let index = Self::number(u, last)?;
        let log_term = Self::number(u, term)?;
        let mut entries = Vec::new();
        for place in 0..u.int_in_range(0..=3_u64)? {
            let len = u.int_in_range(0..=40_usize)?.min(u.len());
            let conf_change = u8::arbitrary(u)? > 250;
            let data = Bytes::copy_from_slice(u.bytes(len)?);
            let index = match u8::arbitrary(u)? {
                0 => Self::number(u, last)?,
                _ => index.saturating_add(1 + place),
            };
            entries.push(LogEntry { index, term: Self::number(u, term)?, conf_change, data });
        }
        let len = u.int_in_range(0..=8_usize)?.min(u.len());
        Ok(RaftMessage {
            kind: u.int_in_range(0..=20)?,
            term: Self::number(u, term)?,
            log_term,
            index,
            entries,
            commit: Self::number(u, commit)?,
            commit_term: Self::number(u, term)?,
            snapshot: if u.ratio(1, 8)? { Some(self.meta(u)?) } else { None },
            request_snapshot: Self::number(u, 0)?,
            reject: bool::arbitrary(u)?,
            reject_hint: Self::number(u, last)?,
            context: Bytes::copy_from_slice(u.bytes(len)?),
            priority: i64::from(i8::arbitrary(u)?),
        })
    }

    fn meta(&self, u: &mut Unstructured<'_>) -> Result<SnapshotMeta> {
        let consensus = self.host.node().expect("it is up").consensus();
        let mut conf = ConfState { voters: (1..=3).map(NodeId).collect(), ..ConfState::default() };
        if u8::arbitrary(u)? > 200 {
            conf.voters.truncate(u.int_in_range(0..=3)?);
            conf.learners = vec![NodeId(u.int_in_range(0..=4)?)];
            conf.auto_leave = bool::arbitrary(u)?;
        }
        let index = Self::number(u, consensus.last_index())?;
        Ok(SnapshotMeta { index, term: Self::number(u, consensus.term())?, conf })
    }

    /// A whole snapshot in pieces, sound or not, and the message that announces it.
    fn snapshot(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let meta = self.meta(u)?;
        let mut stream = walk(&mut State::new(IndexKey([7; 16])), 4_096);
        if u8::arbitrary(u)? > 200 {
            let at = u.choose_index(stream.len())?;
            stream[at] = u8::arbitrary(u)?;
        }
        let len = stream.len() as u64;
        let mut offset = 0;
        for data in stream.chunks(100) {
            let end = offset + data.len() as u64;
            let piece = SnapshotPiece {
                index: meta.index,
                term: meta.term,
                offset,
                data: Bytes::copy_from_slice(data),
                last: end == len,
            };
            let envelope = self.envelope(2, Body::Snapshot(piece));
            self.turn(vec![Input::Peer(Box::new(envelope))]);
            offset = end;
        }
        self.sync();
        if self.host.driver.is_none() {
            return Ok(());
        }
        let mut message = self.message(u)?;
        message.kind = 7;
        message.snapshot = Some(meta);
        let envelope = self.envelope(2, Body::Raft(vec![message]));
        self.turn(vec![Input::Peer(Box::new(envelope))]);
        self.sync();
        Ok(())
    }
}
