//! Three nodes whose messages, syncs, crashes, clocks and callers follow the input's bytes, with
//! the cluster's invariants as the oracle: one leader a term, one history of states, nothing
//! acknowledged is lost, and when everything heals the cluster takes work again.

use std::collections::{BTreeMap, VecDeque};

use dtask_core::consensus::{Body, Envelope, SnapshotPiece};
use dtask_core::id::{NodeId, Ticket};
use dtask_core::log::File;
use dtask_core::node::{Input, Reply, Request};
use dtask_core::rng::Rng;
use dtask_core::spec::{Draft, NewTask};

use crate::host::{Host, Said, clock};

const NODES: usize = 3;
/// Messages on one link; older ones are lost.
const LINK_MAX: usize = 64;
/// Steps of one input.
const STEPS_MAX: usize = 600;

/// Each byte is one step: what happens, and to whom.
pub(crate) fn run(data: &[u8]) {
    let Some((&first, steps)) = data.split_first() else { return };
    let mut cluster = Cluster::new();
    if first & 1 == 0 {
        cluster.heal(60);
    }
    for &step in steps.iter().take(STEPS_MAX) {
        cluster.step(step);
    }
    cluster.end();
}

/// What nodes say to each other from the first start on, some of each kind.
pub(crate) fn envelopes() -> Vec<Envelope> {
    let mut cluster = Cluster::new();
    let mut said = Vec::new();
    for _ in 0..30 {
        let waiting = cluster.links.values().flatten().cloned();
        said.extend(waiting);
        cluster.heal(1);
        cluster.submit(0);
    }
    let step = (said.len() / 60).max(1);
    said.into_iter().step_by(step).collect()
}

struct Cluster {
    hosts: Vec<Host>,
    /// Of each node, how far its clocks have come.
    micros: [u64; NODES],
    links: BTreeMap<(usize, usize), VecDeque<Envelope>>,
    /// S1: who led a term.
    leaders: BTreeMap<u64, NodeId>,
    /// S6: the digest of the state at an index.
    digests: BTreeMap<u64, u128>,
    /// Of each node's life, the last applied index.
    applied: [u64; NODES],
    asked: BTreeMap<Ticket, String>,
    /// S7: ids that were acknowledged.
    acknowledged: Vec<String>,
    next: u64,
    rng: Rng,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self {
            hosts: (1..=NODES as u64).map(|id| Host::new(id, NODES as u64)).collect(),
            micros: [0, 7_000, 13_000],
            links: BTreeMap::new(),
            leaders: BTreeMap::new(),
            digests: BTreeMap::new(),
            applied: [0; NODES],
            asked: BTreeMap::new(),
            acknowledged: Vec::new(),
            next: 0,
            rng: Rng::new(1),
        };
        for who in 0..NODES {
            cluster.start(who);
        }
        cluster
    }

    fn step(&mut self, step: u8) {
        let (kind, who) = (step / 6, usize::from(step) % NODES);
        let other = (who + 1 + usize::from(step) / 3 % 2) % NODES;
        match kind {
            0..=7 => self.pass_time(
                who,
                [1_000, 20_000, 50_000, 50_000, 50_000, 100_000, 400_000, 1_200_000]
                    [usize::from(kind)],
            ),
            8..=15 => self.deliver(other, who, usize::MAX),
            16 | 17 => self.deliver(other, who, 1),
            18 => {
                self.link(other, who).pop_front();
            }
            19 => {
                let again = self.link(other, who).front().cloned();
                self.link(other, who).extend(again);
            }
            20 => {
                let link = self.link(other, who);
                link.rotate_left(usize::from(!link.is_empty()));
            }
            21 => self.link(other, who).clear(),
            22..=26 => self.sync(who),
            27 => self.unreachable(other, who),
            28..=33 => self.submit(who),
            34 => self.crash(who, false),
            35 => self.crash(who, true),
            36..=38 => self.start(who),
            39 => {
                let inputs = self.hosts[who].history();
                self.turn(who, inputs);
            }
            _ => {
                for from in 0..NODES {
                    self.deliver(from, who, usize::MAX);
                }
                self.sync(who);
                self.pass_time(who, 50_000);
            }
        }
    }

    fn link(&mut self, from: usize, to: usize) -> &mut VecDeque<Envelope> {
        self.links.entry((from, to)).or_default()
    }

    fn turn(&mut self, who: usize, inputs: Vec<Input>) {
        if self.hosts[who].driver.is_none() {
            return;
        }
        let said = self.hosts[who].turn(clock(self.micros[who]), inputs);
        self.hear(who, said);
    }

    fn hear(&mut self, who: usize, said: Said) {
        let id = self.hosts[who].id;
        assert_eq!(said.halted, None, "node {id} halts although its disk kept its promises");
        for term in said.leading {
            let leader = *self.leaders.entry(term).or_insert(id);
            assert_eq!(leader, id, "S1: two leaders of term {term}");
        }
        if let Some(node) = self.hosts[who].node() {
            let (index, digest) = (node.state().applied_index(), node.state().digest());
            assert!(index >= self.applied[who], "node {id} has unlearned");
            self.applied[who] = index;
            // Before the cluster is formed a state has no key yet.
            if index > 0 {
                let first = *self.digests.entry(index).or_insert(digest);
                assert_eq!(first, digest, "S6: node {id} differs at index {index}");
            }
        }
        for (ticket, reply) in said.answers {
            if let (Some(task), Reply::Submitted(results)) = (self.asked.remove(&ticket), reply)
                && matches!(results.as_slice(), [Ok(_)])
            {
                self.acknowledged.push(task);
            }
        }
        for envelope in said.envelopes {
            self.send(who, envelope);
        }
        for (to, index, term) in said.transfers {
            self.transfer(who, to, index, term);
        }
    }

    fn send(&mut self, from: usize, envelope: Envelope) {
        let to = envelope.to.0 as usize - 1;
        let link = self.link(from, to);
        link.push_back(envelope);
        if link.len() > LINK_MAX {
            link.pop_front();
        }
    }

    /// The pieces take the same link as everything else: in order, and lost like it.
    fn transfer(&mut self, who: usize, to: NodeId, index: u64, term: u64) {
        let host = &self.hosts[who];
        let (Some(file), Some(node)) = (host.disk.read(&File::Snapshot(index).name()), host.node())
        else {
            return;
        };
        let consensus = node.consensus();
        let (group, cluster) = (dtask_core::id::GroupId(1), consensus.cluster_id());
        let incarnation = dtask_core::id::Incarnation(host.id.0 * 100 + 1);
        let from = (host.id, incarnation);
        let pieces: Vec<Vec<u8>> = file.chunks(900).map(<[u8]>::to_vec).collect();
        let mut offset = 0;
        let len = file.len() as u64;
        for data in pieces {
            let end = offset + data.len() as u64;
            let piece = SnapshotPiece { index, term, offset, data: data.into(), last: end == len };
            let body = Body::Snapshot(piece);
            self.send(who, Envelope { group, cluster, from, to, body, vitals: None });
            offset = end;
        }
        self.turn(who, vec![Input::SnapshotSent { to, delivered: true }]);
    }

    fn pass_time(&mut self, who: usize, micros: u64) {
        self.micros[who] += micros;
        self.turn(who, vec![Input::Wake]);
    }

    fn deliver(&mut self, from: usize, to: usize, most: usize) {
        let count = self.link(from, to).len().min(most);
        let messages: Vec<Envelope> = self.link(from, to).drain(..count).collect();
        let inputs = messages.into_iter().map(|envelope| Input::Peer(Box::new(envelope)));
        self.turn(to, inputs.collect());
    }

    fn unreachable(&mut self, from: usize, to: usize) {
        self.link(from, to).clear();
        let to = self.hosts[to].id;
        self.turn(from, vec![Input::PeerUnreachable { to }]);
    }

    fn sync(&mut self, who: usize) {
        if self.hosts[who].driver.is_some() {
            let inputs = self.hosts[who].sync();
            self.turn(who, inputs);
        }
    }

    fn submit(&mut self, who: usize) {
        self.next += 1;
        // Every third id comes again.
        let id = format!("t{}", self.next - self.next % 3 / 2);
        let ticket = Ticket(self.next);
        self.asked.insert(ticket, id.clone());
        let request = Request::Submit(vec![task(&id)]);
        self.turn(who, vec![Input::Ask { ticket, request, forwarded: false }]);
    }

    fn crash(&mut self, who: usize, power: bool) {
        self.hosts[who].crash(power.then_some(&mut self.rng));
        self.applied[who] = 0;
    }

    fn start(&mut self, who: usize) {
        if self.hosts[who].driver.is_some() {
            return;
        }
        self.hosts[who].start().expect("the disk kept its promises");
        self.turn(who, vec![Input::Wake]);
    }

    /// Everything works, in rounds of 50 ms.
    fn heal(&mut self, rounds: usize) {
        for who in 0..NODES {
            self.start(who);
        }
        for _ in 0..rounds {
            for who in 0..NODES {
                for from in 0..NODES {
                    self.deliver(from, who, usize::MAX);
                }
                self.sync(who);
                let inputs = self.hosts[who].history();
                self.turn(who, inputs);
                self.pass_time(who, 50_000);
            }
        }
    }

    /// L: after healing somebody leads, takes work, and knows everything that was acknowledged.
    fn end(&mut self) {
        let fresh = "fresh".to_owned();
        for round in 0..40 {
            self.heal(20);
            let leader = (0..NODES).find(|who| {
                self.hosts[*who].node().is_some_and(dtask_core::node::Node::is_leading)
            });
            let Some(leader) = leader else { continue };
            if self.acknowledged.contains(&fresh) {
                return self.judge(leader);
            }
            let ticket = Ticket(1_000_000 + round);
            self.asked.insert(ticket, fresh.clone());
            let request = Request::Submit(vec![task(&fresh)]);
            self.turn(leader, vec![Input::Ask { ticket, request, forwarded: false }]);
        }
        panic!("L1: forty seconds after healing no task is taken");
    }

    fn judge(&self, leader: usize) {
        let node = self.hosts[leader].node().expect("it leads");
        node.state().audit().expect("consistent");
        for id in &self.acknowledged {
            let known = node.state().find(id).is_some() || node.state().ended(id).is_some();
            assert!(known, "S7: {id} was acknowledged and is lost");
        }
    }
}

fn task(id: &str) -> NewTask {
    let payload = vec![b'p'; 300].into();
    let draft = Draft { id, kind: "noop", payload, ..Draft::default() };
    draft.check().expect("a valid task")
}
