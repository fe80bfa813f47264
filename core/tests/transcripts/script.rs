//! The words of a dialogue: commands become inputs, what is seen becomes lines.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use dtask_core::id::{InstanceId, NodeId, RunNumber, SessionId, Ticket, Token};
use dtask_core::node::{Note, Request};
use dtask_core::rng::Rng;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::Wish;
use dtask_core::time::Timestamp;
use dtask_core::worker::{Hello, LeaderFrame, Report, WorkerFrame};

use super::lines::{self, when};
use super::words::{Words, span};
use super::world::{Seen, World};

/// Plays a dialogue: its text with what is seen below each command.
pub(crate) fn play(text: &str) -> String {
    let mut script = Script::default();
    let mut out = String::new();
    for line in text.lines() {
        if line.starts_with("->") {
            continue;
        }
        out.push_str(line);
        out.push('\n');
        if !line.is_empty() && !line.starts_with('#') {
            script.command(line);
            for seen in script.lines.drain(..) {
                let _ = writeln!(out, "-> {seen}");
            }
        }
    }
    out
}

/// A dialogue under way.
#[derive(Default)]
pub(crate) struct Script {
    world: Option<World>,
    began: Timestamp,
    workers: BTreeMap<String, Worker>,
    /// Callers whose answer is still to come, and what they asked about.
    asked: BTreeMap<Ticket, String>,
    sessions: u64,
    old: NodeId,
    lines: Vec<String>,
}

struct Worker {
    hello: Hello,
    session: SessionId,
    node: NodeId,
    tokens: Vec<Token>,
    seq: u64,
    /// Renews by itself, every three seconds, and says nothing of it.
    alive: bool,
    next_beat: Duration,
}

impl Script {
    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("the first command is `cluster`")
    }

    /// Does what a line says.
    pub(crate) fn command(&mut self, line: &str) {
        let line = self.name_nodes(line);
        let words = Words::new(&line);
        let node = |place: usize| NodeId(words.plain(place).parse().expect("a node"));
        match words.plain(0) {
            "cluster" => {
                let snapshot = words.number("snapshot").unwrap_or(16 << 20);
                self.cluster(words.plain(1).parse().expect("a number"), snapshot);
            }
            "advance" => self.advance(span(words.plain(1))),
            "submit" => self.submit(&words),
            "cancel" | "trigger" | "retry" | "delete" | "task" | "attempts" | "wait" | "follow" => {
                self.ask(&words);
            }
            "addresses" => {
                let to = self.to(&words);
                let line = self.world().addresses(to);
                self.lines.push(line);
            }
            "cluster?" => {
                let request = Request::Cluster;
                self.send(&words, String::new(), request);
            }
            "output" => {
                let offset = words.number("offset").unwrap_or(0);
                let data = words.plain(3).as_bytes().to_vec().into();
                let token = Token(words.plain(2).parse().expect("a token"));
                let frame = WorkerFrame::Output { token, offset, data, end: false };
                self.frame(words.plain(1), frame);
            }
            "join" => self.join(&words),
            "rejoin" => self.rejoin(words.plain(1), words.number("node").map(NodeId)),
            "beat" => self.beat(words.plain(1)),
            "alive" => self.worker(words.plain(1)).alive = true,
            "silent" => self.worker(words.plain(1)).alive = false,
            "report" => self.report(&words),
            "drain" => self.frame(words.plain(1), WorkerFrame::Draining),
            "forget" => {
                // As if the frame that opened it had never arrived.
                let token = Token(words.plain(2).parse().expect("a token"));
                self.worker(words.plain(1)).tokens.retain(|held| *held != token);
            }
            "leave" => {
                let session = self.worker(words.plain(1)).session;
                self.world().hang_up(session);
            }
            "cut" => self.world().cut(node(1)),
            "heal" => self.world().heal(),
            "crash" => self.world().crash(node(1)),
            "move" => self.world().move_away(node(1)),
            "start" => self.world().start(node(1)),
            "pause" => self.world().pause(node(1)),
            "resume" => self.world().resume(node(1)),
            "shutdown" => self.world().shut_down(node(1)),
            "outbox" => self.world().bound_outbox(words.number("bytes").expect("a number")),
            "gaps" => {
                let gaps = std::mem::take(&mut self.world().gaps);
                self.lines.extend(gaps);
            }
            "restore" => {
                self.world().restore_history(words.number("through").expect("a number"));
            }
            "open" => self.world().open_history(node(1)),
            "history" if words.plain(1) == "none" => self.world().no_history(),
            "history" => self.world().set_history(words.plain(1) == "up"),
            "wall" => {
                let micros = span(&words.plain(1)[1..]).as_micros() as i64;
                let back = words.plain(1).starts_with('-');
                let step = if back { -micros } else { micros };
                match words.number("node") {
                    Some(node) => self.world().step_wall_of(NodeId(node), step),
                    None => self.world().step_wall(step),
                }
            }
            word => panic!("{word} is no command"),
        }
        self.look();
    }

    /// LEADER is the node that leads, FOLLOWER the first that does not, OLD the one that LEADER
    /// meant last.
    fn name_nodes(&mut self, line: &str) -> String {
        let leader = self.world.as_ref().and_then(World::leader);
        let mut line = line.to_owned();
        if line.contains("LEADER") {
            let leader = leader.expect("a node leads");
            self.old = leader;
            line = line.replace("LEADER", &leader.to_string());
        }
        let follower = if leader == Some(NodeId(1)) { 2 } else { 1 };
        line.replace("FOLLOWER", &follower.to_string()).replace("OLD", &self.old.to_string())
    }

    fn cluster(&mut self, nodes: u64, snapshot: u64) {
        let world = World::new(nodes, snapshot);
        self.began = world.now().wall;
        self.world = Some(world);
        for _ in 0..200 {
            if self.world().leader().is_some() {
                break;
            }
            self.world().pass(Duration::from_millis(50));
        }
        // What happens from here on is told from the leader's waking on.
        self.began = self.world().now().wall;
    }

    fn advance(&mut self, span: Duration) {
        let mut left = span;
        while !left.is_zero() {
            let passed = self.world().pass(left);
            left -= passed;
            self.look();
            let due: Vec<String> = self
                .workers
                .iter_mut()
                .filter_map(|(name, worker)| {
                    worker.next_beat = worker.next_beat.saturating_sub(passed);
                    (worker.alive && worker.next_beat.is_zero()).then(|| name.clone())
                })
                .collect();
            for name in due {
                self.beat(&name);
                self.look();
            }
        }
    }

    fn to(&mut self, words: &Words<'_>) -> NodeId {
        match words.number("node") {
            Some(node) => NodeId(node),
            None => self.world().leader().unwrap_or(NodeId(1)),
        }
    }

    fn send(&mut self, words: &Words<'_>, what: String, request: Request) {
        let to = self.to(words);
        let ticket = self.world().ask(to, request);
        self.asked.insert(ticket, what);
    }

    fn submit(&mut self, words: &Words<'_>) {
        let task = words.task(self.began);
        let request = if words.plain.contains(&"again") {
            Request::Resubmit(vec![task])
        } else {
            Request::Submit(vec![task])
        };
        self.send(words, words.plain(1).to_owned(), request);
    }

    fn ask(&mut self, words: &Words<'_>) {
        let id: Box<str> = words.plain(1).into();
        let run = words.number("run").map(|run| RunNumber(run as u32));
        let rerun = |id, wish| {
            let request = words.pair("request").map(Into::into);
            Request::Trigger { id, wish, request, retry: false, past: None }
        };
        let stale = words.plain.contains(&"stale");
        let request = match words.plain(0) {
            "cancel" => Request::Cancel {
                id,
                run,
                request: words.pair("request").map(Into::into),
                retry: false,
            },
            "trigger" => rerun(id, Wish::Trigger),
            "retry" => rerun(id, run.map_or(Wish::RetryLatest, Wish::Retry)),
            "delete" => {
                Request::Delete { id, cancel: words.plain.contains(&"running"), past: None }
            }
            "wait" => Request::Wait { id, run },
            "attempts" => Request::Attempts { id, stale },
            "follow" => {
                let offset = words.number("offset").unwrap_or(0);
                Request::Follow { id, token: None, offset }
            }
            _ => Request::Task { id, stale },
        };
        self.send(words, words.plain(1).to_owned(), request);
    }

    fn worker(&mut self, name: &str) -> &mut Worker {
        self.workers.get_mut(name).unwrap_or_else(|| panic!("worker {name} has not joined"))
    }

    fn join(&mut self, words: &Words<'_>) {
        let name = words.plain(1);
        let list = |key: &str| -> Vec<Box<str>> {
            words
                .pair(key)
                .map(|text| text.split(',').map(Into::into).collect())
                .unwrap_or_default()
        };
        let hello = Hello {
            name: name.split('/').next().unwrap_or(name).into(),
            instance: InstanceId(self.workers.len() as u64 + 1),
            slots: words.number("slots").unwrap_or(1) as u32,
            kinds: if words.pair("types").is_some() { list("types") } else { vec!["mail".into()] },
            queues: list("queues"),
            labels: Vec::new(),
            tokens: Vec::new(),
            draining: false,
        };
        let node = self.to(words);
        let worker = Worker {
            hello,
            session: SessionId(0),
            node,
            tokens: Vec::new(),
            seq: 0,
            alive: words.plain.contains(&"alive"),
            next_beat: Duration::from_secs(3),
        };
        self.workers.insert(name.to_owned(), worker);
        self.rejoin(name, Some(node));
    }

    fn rejoin(&mut self, name: &str, node: Option<NodeId>) {
        self.sessions += 1;
        let session = SessionId(self.sessions);
        let leader = self.world().leader();
        let worker = self.worker(name);
        worker.session = session;
        worker.node = node.or(leader).unwrap_or(worker.node);
        let mut hello = worker.hello.clone();
        hello.tokens.clone_from(&worker.tokens);
        self.frame(name, WorkerFrame::Hello(hello));
    }

    fn frame(&mut self, name: &str, frame: WorkerFrame) {
        let worker = self.worker(name);
        let (session, node) = (worker.session, worker.node);
        self.world().say(session, node, frame);
    }

    fn beat(&mut self, name: &str) {
        let worker = self.worker(name);
        worker.seq += 1;
        worker.next_beat = Duration::from_secs(3);
        let frame = WorkerFrame::Heartbeat { seq: worker.seq, tokens: worker.tokens.clone() };
        self.frame(name, frame);
    }

    fn report(&mut self, words: &Words<'_>) {
        let now = self.world().now().wall;
        let outcome = match words.plain(3) {
            "ok" => AttemptOutcome::Succeeded,
            "fails" => AttemptOutcome::Failed,
            "interrupted" => AttemptOutcome::Interrupted,
            "cancelled" => AttemptOutcome::Cancelled,
            "timed_out" => AttemptOutcome::TimedOut,
            word => panic!("{word} is no outcome"),
        };
        let report = Report {
            token: Token(words.plain(2).parse().expect("a token")),
            outcome,
            started_at: Some(now),
            finished_at: Some(now),
            exit_code: None,
            retryable: true,
            output: Default::default(),
            error: "".into(),
            tail: words.pair("tail").unwrap_or_default().as_bytes().to_vec().into(),
        };
        self.frame(words.plain(1), WorkerFrame::Reports(vec![report]));
    }

    /// What was seen since the last call.
    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }

    /// Equal indexes mean equal digests (S6), and each state is consistent in itself.
    pub(crate) fn check_states(&mut self) {
        let nodes = self.world().nodes();
        for node in &nodes {
            node.state().audit().expect("a state that adds up");
            let digest = (node.state().applied_index(), node.state().digest());
            let first = nodes[0].state();
            assert_eq!((first.applied_index(), first.digest()), digest);
        }
    }

    /// Workers that lost their connection find the leader again; some of their attempts end well.
    pub(crate) fn serve_workers(&mut self, rng: &mut Rng) {
        for name in self.workers.keys().cloned().collect::<Vec<_>>() {
            let session = self.worker(&name).session;
            let leader = self.world().leader();
            if !self.world().is_connected(session) && leader.is_some() {
                self.rejoin(&name, leader);
                self.look();
            }
            for token in self.worker(&name).tokens.clone() {
                if rng.chance(1, 3) {
                    self.command(&format!("report {name} {token} ok"));
                }
            }
        }
    }

    /// Writes down what was seen.
    fn look(&mut self) {
        for seen in self.world().seen() {
            match seen {
                Seen::Answer(ticket, reply) => {
                    let what = self.asked.get(&ticket).cloned().unwrap_or_default();
                    let line = lines::reply(&what, &reply, self.began);
                    self.lines.extend(line);
                }
                Seen::Frame(node, session, frame) => self.hear(node, session, frame),
                Seen::Closed(session) => {
                    if let Some(name) = self.name_of(session) {
                        self.lines.push(format!("{name}: disconnected"));
                    }
                }
                Seen::Note(node, note) => self.note(node, &note),
            }
        }
    }

    fn name_of(&self, session: SessionId) -> Option<String> {
        let mut workers = self.workers.iter();
        workers.find(|(_, worker)| worker.session == session).map(|(name, _)| name.clone())
    }

    fn hear(&mut self, node: NodeId, session: SessionId, frame: LeaderFrame) {
        let Some(name) = self.name_of(session) else { return };
        let worker = self.worker(&name);
        let line = match frame {
            LeaderFrame::Welcome { extends, .. } => {
                worker.tokens.retain(|token| extends.contains(token));
                format!("welcomed by node {node}{}", lines::tokens(", extends", &extends))
            }
            LeaderFrame::Renewed { extends, .. } => {
                let gone: Vec<Token> =
                    worker.tokens.iter().copied().filter(|t| !extends.contains(t)).collect();
                worker.tokens.retain(|token| extends.contains(token));
                if worker.alive && gone.is_empty() {
                    return;
                }
                format!(
                    "renewed{}{}",
                    lines::tokens(", extends", &extends),
                    lines::tokens(", aborts", &gone)
                )
            }
            LeaderFrame::Open(assignments) => {
                let each = assignments.iter().map(|assignment| {
                    worker.tokens.push(assignment.token);
                    let (id, run) = (&assignment.task_id, assignment.run);
                    format!(
                        "{id} run {run} attempt {} token {}",
                        assignment.attempt, assignment.token
                    )
                });
                format!("opens {}", each.collect::<Vec<_>>().join("; "))
            }
            LeaderFrame::Acknowledged(ranges) => {
                worker.tokens.retain(|token| {
                    !ranges.iter().any(|(first, last)| first <= token && token <= last)
                });
                let each = ranges.iter().flat_map(|(first, last)| (first.0..=last.0).map(Token));
                format!("forgets{}", lines::tokens("", &each.collect::<Vec<_>>()))
            }
            LeaderFrame::Stop { token, why } => format!("stops token {token}: {why:?}"),
            LeaderFrame::NotLeader { leader } => match leader {
                Some((leader, address)) => format!("sent on to node {leader} at {address}"),
                None => "told that nobody leads".to_owned(),
            },
            LeaderFrame::Refused { reason } => format!("refused: {reason}"),
            LeaderFrame::Follow { token, offset } => format!("shows token {token} from {offset}"),
            LeaderFrame::Unfollow { token } => format!("hides token {token}"),
        };
        self.lines.push(format!("{name}: {line}"));
    }

    fn note(&mut self, node: NodeId, note: &Note) {
        let line = match note {
            Note::Leading { term } => format!("node {node} leads term {term}"),
            Note::LeaseExpired { token } => {
                format!("{}: lease of token {token} ends", when(self.now(), self.began))
            }
            Note::Fenced { token } => format!("report of token {token} is stale"),
            Note::SnapshotTaken { .. } => format!("node {node} took a snapshot"),
            Note::SnapshotInstalled { .. } => format!("node {node} installed a snapshot"),
            Note::Violation { what } => format!("node {node} VIOLATION {what}"),
            Note::HandsOn { to, why } => {
                format!("node {node} hands on to node {to}: {}", why.reason())
            }
            Note::Diverged { index } => format!("node {node} has diverged by index {index}"),
            Note::HistoryRefused { text } => format!("node {node} stores nothing: {text}"),
            Note::Warning { text } => format!("node {node} warns: {text}"),
            Note::Following { .. } | Note::Formed { .. } | Note::Applied { .. } => return,
        };
        self.lines.push(line);
    }

    fn now(&self) -> Timestamp {
        self.world.as_ref().map(|world| world.now().wall).unwrap_or_default()
    }
}
