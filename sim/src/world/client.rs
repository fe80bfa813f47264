//! Clients: what they ask, whom, how often they repeat it, and what they remember.

use bytes::Bytes;
use dtask_core::limits;
use dtask_core::node::{Rejection, Reply, Request, TaskFilter};
use dtask_core::rng::Rng;
use dtask_core::spec::{
    Backoff, DstFold, DstGap, Misfire, NewTask, Overlap, Profile, Recurrence, Retry, Rule, Schedule,
};
use dtask_core::time::Timestamp;

use super::World;
use super::call::{Call, id_of};
use super::config::{around, log_uniform};
use super::event::Event;
use super::requests::marked;
use super::trace::Probe;
use super::worker::KINDS;

/// What a client does with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Ordinary traffic; repeated with the same ids until it is answered for certain.
    Load,
    /// One of the fresh questions of the liveness phase, by number.
    Fresh(u32),
    /// Asked only to see what a certain node says.
    Aside,
}

/// Tries of a submit before its client forgets it.
const TRIES_MAX: u32 = 20;
/// Tasks that all clients of a seed make together: a backlog is tested by size, not by length.
const MADE_MAX: u64 = 3_000;
/// Tasks that a client remembers for later questions.
const KNOWN_MAX: usize = 200;

/// A client.
#[derive(Debug)]
pub struct Client {
    /// Draws of its own.
    pub rng: Rng,
    /// Tasks that it submitted, for repeats and questions.
    pub known: Vec<NewTask>,
    /// Rises with each task.
    pub made: u64,
    /// The newest question that carried a request id, for repeats.
    pub(super) asked: Option<Request>,
    /// Request ids that it made.
    pub(super) requests: u64,
}

impl Client {
    /// A client that has done nothing.
    pub fn new(rng: Rng) -> Self {
        Self { rng, known: Vec::new(), made: 0, asked: None, requests: 0 }
    }
}

impl World {
    /// A client does its next operation.
    pub(super) fn client_step(&mut self, who: usize) {
        if self.healed {
            return;
        }
        let think = around(&mut self.clients[who].rng, self.config.load.think_micros);
        self.agenda.push(self.at + think.max(1), Event::ClientStep(who));
        let request = self.draw_request(who);
        if let Some(request) = request {
            self.ask(who, request, Purpose::Load, 0);
        }
    }

    /// Asks a node drawn at random.
    pub(super) fn ask(&mut self, client: usize, request: Request, purpose: Purpose, tries: u32) {
        let nodes = self.config.nodes as u64;
        let node = match purpose {
            Purpose::Load | Purpose::Aside => self.clients[client].rng.below(nodes) as usize,
            Purpose::Fresh(_) => {
                let place = self.rng.client.below(self.core.len() as u64) as usize;
                self.core[place]
            }
        };
        let patience = match (&request, purpose) {
            (_, Purpose::Fresh(_)) => 3_000_000,
            (Request::Wait { .. }, _) => {
                log_uniform(&mut self.clients[client].rng, 100_000, 20_000_000)
            }
            _ => log_uniform(&mut self.clients[client].rng, 200_000, 8_000_000),
        };
        let asked_at = self.at;
        let call = Call { client, purpose, request, node, via: None, tries, looks: 0, asked_at };
        self.call(call, patience);
    }

    fn draw_request(&mut self, who: usize) -> Option<Request> {
        let wall = self.true_wall();
        let load = self.config.load.clone();
        let made: u64 = self.clients.iter().map(|client| client.made).sum();
        let forgets = self.forgets();
        let client = &mut self.clients[who];
        let total: u64 = load.weights.iter().sum();
        let mut draw = client.rng.below(total.max(1));
        let mut what = 0;
        while what < load.weights.len() - 1 && draw >= load.weights[what] {
            draw -= load.weights[what];
            what += 1;
        }
        if made >= MADE_MAX && what < 4 {
            what = 4 + client.rng.below(8) as usize;
        }
        let known = client.known.len() as u64;
        let pick = client.rng.below(known.max(1)) as usize;
        let old = client.known.get(pick).cloned();
        let id = old.as_ref().map(|task| task.id.clone());
        let stale = client.rng.chance(1, 4);
        let request = match what {
            0 => Request::Submit(vec![self.draw_task(who, Schedule::Now)]),
            1 => {
                let late = client.rng.below(30_000_000) as i64 - 3_000_000;
                let at = Timestamp::from_micros(wall + late);
                Request::Submit(vec![self.draw_task(who, Schedule::At(at))])
            }
            2 => {
                let rule = draw_rule(&mut client.rng, wall);
                let schedule =
                    Schedule::Recurring(Box::new(draw_recurrence(&mut client.rng, rule)));
                Request::Submit(vec![self.draw_task(who, schedule)])
            }
            3 => {
                let count = log_uniform(&mut client.rng, 2, 100);
                Request::Submit((0..count).map(|_| self.draw_task(who, Schedule::Now)).collect())
            }
            // Where ids are forgotten too soon nobody may rely on a claim.
            4 if !forgets && client.rng.chance(1, 8) => client.draw_claim(who),
            4 => self.repeat(who, old?)?,
            5 => {
                let mut other = old?;
                other.payload = Bytes::from_static(b"another payload");
                self.repeat(who, other)?
            }
            6 => {
                let cancel = client.draw_cancel(who, id?, forgets);
                self.alone(cancel)?
            }
            7 => Request::Task { id: id?, stale },
            8 => Request::Wait { id: id?, run: None },
            9 => {
                let trigger = client.draw_trigger(who, id?, forgets);
                self.alone(trigger)?
            }
            10 => Request::Delete { id: id?, cancel: client.rng.chance(1, 2), past: None },
            _ => Request::Tasks {
                ids: None,
                filter: TaskFilter::default(),
                cursor: 0,
                limit: 1 + client.rng.below(50) as u32,
                stale,
            },
        };
        if let Request::Submit(tasks) | Request::Resubmit(tasks) = &request {
            for task in tasks {
                self.promises.invoked(task);
            }
            let each = tasks.iter().map(|it| it.id.len() + it.name.len() + it.payload.len());
            self.largest_submit = self.largest_submit.max(each.sum());
            self.remember(who, tasks[0].clone());
        }
        Some(request)
    }

    /// Sends a known id again. Where ids are forgotten at once only a marked re-send is safe, and
    /// only when no unmarked sending is still on its way (P8.2).
    fn repeat(&mut self, who: usize, task: NewTask) -> Option<Request> {
        if self.forgets() {
            return (!self.calls.has_submit_of(&task.id)).then(|| Request::Resubmit(vec![task]));
        }
        let marked = self.clients[who].rng.chance(1, 2);
        Some(if marked { Request::Resubmit(vec![task]) } else { Request::Submit(vec![task]) })
    }

    /// As for a submit's repeat.
    fn alone(&self, request: Request) -> Option<Request> {
        (!self.forgets() || !self.calls.has_one_like(&request)).then_some(request)
    }

    /// The table of ended ids is too small for its window.
    pub(super) const fn forgets(&self) -> bool {
        self.config.ended_ids_max < limits::DEDUP_IDS_MAX as u64
    }

    fn remember(&mut self, who: usize, task: NewTask) {
        let known = &mut self.clients[who].known;
        if known.iter().any(|other| other.id == task.id) {
            return;
        }
        if known.len() == KNOWN_MAX {
            known.swap_remove(0);
        }
        known.push(task);
    }

    fn draw_task(&mut self, who: usize, schedule: Schedule) -> NewTask {
        let payload_max = self.config.load.payload_max;
        let client = &mut self.clients[who];
        client.made += 1;
        let rng = &mut client.rng;
        let kind = KINDS[rng.below(3) as usize];
        let retry = Retry {
            max_retries: rng.below(4) as u16,
            backoff: if rng.chance(1, 2) { Backoff::Fixed } else { Backoff::Exponential },
            backoff_base_ms: log_uniform(rng, 10, 2_000),
            backoff_max_ms: 8_000,
            no_retry_exit: if rng.chance(1, 3) { vec![3] } else { Vec::new() },
        };
        let size = log_uniform(rng, 1, payload_max) as usize;
        NewTask {
            id: format!("c{who}-{}", client.made).into(),
            name: "".into(),
            payload: Bytes::from(vec![b'x'; size]),
            priority: rng.below(10) as u8,
            schedule,
            profile: Profile {
                kind: kind.into(),
                queue: if rng.chance(1, 4) { "other".into() } else { "default".into() },
                retry,
                run_timeout_ms: log_uniform(rng, 500, 30_000),
            },
        }
    }

    /// An answer has arrived.
    pub(super) fn client_answered(&mut self, call: Call, reply: Reply) {
        match call.purpose {
            Purpose::Fresh(number) => return self.fresh_answered(number, &call, reply),
            Purpose::Aside => return,
            Purpose::Load => {}
        }
        match &reply {
            Reply::Rejected(rejection) => self.client_refused(call, rejection),
            Reply::Submitted(results) => {
                for result in results {
                    match result {
                        Ok(accepted) if !accepted.new => self.probes.hit(Probe::RepeatAnswered),
                        Err(Rejection::IdConflict { .. }) => {
                            self.probes.hit(Probe::ConflictRefused)
                        }
                        Err(Rejection::Forgotten) => self.probes.hit(Probe::ForgottenRefused),
                        Ok(_) | Err(_) => {}
                    }
                }
                let unknown =
                    results.iter().any(|result| result == &Err(Rejection::OutcomeUnknown));
                if unknown {
                    self.client_refused(call, &Rejection::OutcomeUnknown);
                }
            }
            _ => {}
        }
    }

    fn client_refused(&mut self, call: Call, rejection: &Rejection) {
        match rejection {
            Rejection::OutcomeUnknown => {
                self.probes.hit(Probe::OutcomeUnknown);
                self.probes.hit(Probe::LeaderLostDuringSubmit);
                self.again(marked(call));
            }
            Rejection::NoLeader
            | Rejection::NotLeader { .. }
            | Rejection::Unavailable { .. }
            | Rejection::Full { .. } => {
                if let Rejection::Full { what, .. } = rejection
                    && what.contains("history")
                {
                    self.probes.hit(Probe::RefusedForHistory);
                }
                // Nothing was done; but another sending of the same id may be under way.
                let call = if self.forgets() { marked(call) } else { call };
                self.again(call);
            }
            Rejection::InGap => self.probes.hit(Probe::RefusedInGap),
            Rejection::IdConflict { .. }
            | Rejection::Forgotten
            | Rejection::RequestReused
            | Rejection::NotFound { .. }
            | Rejection::Terminal { .. }
            | Rejection::Running
            | Rejection::Invalid { .. } => {}
        }
    }

    /// No answer came.
    pub(super) fn client_gives_up(&mut self, call: Call) {
        match call.purpose {
            Purpose::Fresh(_) => self.fresh_again(call),
            Purpose::Load => self.again(marked(call)),
            Purpose::Aside => {}
        }
    }

    /// The same question with the same ids at another node, soon or much later.
    fn again(&mut self, call: Call) {
        let submit = matches!(call.request, Request::Submit(_) | Request::Resubmit(_));
        let same = submit || id_of(&call.request).is_some();
        if self.healed || call.tries >= TRIES_MAX || !same {
            return;
        }
        let rng = &mut self.clients[call.client].rng;
        let wait = if rng.chance(1, 20) { 30_000_000 } else { 500_000 };
        let at = self.at + 1 + rng.below(wait);
        self.agenda.push(at, Event::Again(Box::new(call)));
    }

    /// The pause before another try is over.
    pub(super) fn client_asks_again(&mut self, call: Call) {
        if self.over || (self.healed && call.purpose == Purpose::Load) {
            return;
        }
        self.ask(call.client, call.request, call.purpose, call.tries + 1);
    }

    /// True wall time, in microseconds since 1970.
    pub(super) fn true_wall(&self) -> i64 {
        self.config.epoch + self.at as i64
    }
}

fn draw_rule(rng: &mut Rng, wall: i64) -> Rule {
    let cron = |expr: String, zone: &str| Rule::Cron {
        expr: expr.into(),
        zone: zone.into(),
        gap: DstGap::Auto,
        fold: DstFold::Auto,
    };
    let zone = if rng.chance(1, 2) { "UTC" } else { "Europe/Paris" };
    match rng.below(5) {
        0 | 1 => {
            let period_ms = 1_000 * (1 + rng.below(20));
            let start = rng.chance(2, 3).then(|| Timestamp::from_micros(wall));
            Rule::Every { period_ms, start }
        }
        2 => cron(format!("*/{} * * * * *", [2, 5, 10, 15][rng.below(4) as usize]), zone),
        3 => cron(format!("*/{} * * * *", [1, 2, 5][rng.below(3) as usize]), zone),
        _ => cron(format!("{} {} * * *", rng.below(60), rng.below(4)), zone),
    }
}

fn draw_recurrence(rng: &mut Rng, rule: Rule) -> Recurrence {
    Recurrence {
        rule,
        misfire: if rng.chance(1, 2) { Misfire::Skip } else { Misfire::FireOnce },
        catch_up_ms: log_uniform(rng, 1_000, 86_400_000),
        overlap: if rng.chance(1, 2) { Overlap::Allow } else { Overlap::Skip },
    }
}
