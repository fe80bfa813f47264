//! The liveness phase: after the healing the core must lead (L1), answer fresh questions and run
//! fresh tasks (L2), end what is due (L3), empty its history lag (L4) and agree (L5).

use bytes::Bytes;
use dtask_core::node::{Rejection, Reply, Request};
use dtask_core::spec::{Backoff, NewTask, Profile, Retry, Schedule};
use dtask_core::state::view::TaskStatus;

use super::World;
use super::call::Call;
use super::client::Purpose;
use super::event::Event;
use super::wrong::FRAGILE;
use crate::check::{Verdict, hold};

/// L1's bound: ten of the longest election timeouts to elect a leader, and as long again until it
/// has woken: it may first have to send its only follower a snapshot.
const LEAD_MICROS: u64 = 20_000_000;
/// L2's bound.
const FRESH_MICROS: u64 = 30_000_000;
/// How many fresh tasks L2 demands.
const FRESH_TASKS: u32 = 10;
/// L4's bound.
const LAG_MICROS: u64 = 60_000_000;
/// L3's bound: leases, run timeouts, all retries and their waits, twice over because replicated
/// time may run at half speed (P6.1), and room for a queue.
const DUE_MICROS: u64 = 400_000_000;
/// The pause before a fresh question is asked again.
const FRESH_PAUSE_MICROS: u64 = 100_000;
/// Looks for a moment at which history lags by nothing, once all goals are reached.
const LAG_LOOKS: u32 = 40;
/// How often the phase looks.
const LOOK_MICROS: u64 = 250_000;

/// What the liveness phase has seen.
#[derive(Debug, Default)]
pub struct Progress {
    /// When a leader was first seen after the healing.
    led_at: Option<u64>,
    /// Fresh tasks by number: whether they have been seen to succeed.
    fresh: Vec<bool>,
    /// Change number that history must reach, and since when.
    lag_goal: Option<u64>,
    /// History reached it.
    lag_zero: bool,
    /// Everything due has ended.
    due_over: bool,
    /// The log's length that all core nodes must reach.
    apply_goal: Option<u64>,
    /// They did.
    agreed: bool,
    /// Looks since all goals were reached.
    idle: u32,
}

impl World {
    /// Sets the goals.
    pub(super) fn liveness_begins(&mut self) {
        self.progress = Progress::default();
    }

    /// Looks at the goals; ends the run when all are reached.
    pub(super) fn liveness_look(&mut self) -> Verdict {
        let since = self.at - self.healed_at;
        self.l1_a_leader(since)?;
        self.l2_fresh_tasks_run()?;
        self.l4_history_catches_up()?;
        self.l5_all_agree(since)?;
        self.l3_due_tasks_end(since)?;
        let odd = self.l9_the_odd_one_does_not_lead()?;
        // Where nothing is dispatched for good the later ones wait.
        if odd && self.has_settled() && (self.is_split() || !self.has_fresh_open()) {
            let exact = self.history.through() == self.chain.changes();
            self.over = exact || self.progress.idle >= LAG_LOOKS;
            self.progress.idle += 1;
        }
        if !self.over {
            self.agenda.push(self.at + LOOK_MICROS, Event::Sample);
        }
        Ok(())
    }

    /// The goals that stand at the beginning are reached.
    pub(super) fn has_settled(&self) -> bool {
        let progress = &self.progress;
        let fresh = progress.fresh.get(..FRESH_TASKS as usize);
        let fresh = fresh.is_some_and(|fresh| fresh.iter().all(|&done| done));
        fresh && self.flood_is_over() && progress.lag_zero && progress.agreed && progress.due_over
    }

    /// Some fresh task is not known to have succeeded.
    pub(super) fn has_fresh_open(&self) -> bool {
        self.progress.fresh.iter().any(|&done| !done)
    }

    /// L1: a leader within ten election timeouts.
    fn l1_a_leader(&mut self, since: u64) -> Verdict {
        if self.progress.led_at.is_some() {
            return Ok(());
        }
        let led = self.core.iter().any(|&node| self.nodes[node].leads_since.is_some());
        hold!("L1", led || since <= LEAD_MICROS, "no leader {since} us after the healing");
        if led {
            self.progress.led_at = Some(self.at);
            self.progress.fresh = vec![false; FRESH_TASKS as usize];
            for number in 0..FRESH_TASKS {
                self.fresh_submit(number, format!("fresh-{number}").into());
            }
            self.flood_begins();
        }
        Ok(())
    }

    /// L2: fresh submits, reads and runs within 30 s of a leader.
    fn l2_fresh_tasks_run(&self) -> Verdict {
        let Some(led_at) = self.progress.led_at else { return Ok(()) };
        // P9.5: new work may be refused until history is back.
        let led_at = led_at.max(self.history.down_until);
        let first = self.progress.fresh.len().min(FRESH_TASKS as usize);
        let open: Vec<usize> = (0..first).filter(|&number| !self.progress.fresh[number]).collect();
        hold!(
            "L2",
            open.is_empty() || self.at <= led_at + FRESH_MICROS,
            "fresh tasks {open:?} have not run within 30 s of a leader: {}",
            self.describe(open.first().map(|number| format!("fresh-{number}")))
        );
        Ok(())
    }

    fn describe(&self, id: Option<String>) -> String {
        let Some(id) = id else { return String::new() };
        match self.chain.ledger().find(&id) {
            Some((serial, record)) => format!("{id} is serial {serial}, {record:?}"),
            None => format!("{id} is not in the log"),
        }
    }

    /// L3: what was due has ended.
    fn l3_due_tasks_end(&mut self, since: u64) -> Verdict {
        // Looking through all records is dear: now and then, and at the end.
        if self.progress.due_over || !(since / LOOK_MICROS).is_multiple_of(8) {
            return Ok(());
        }
        let overdue = self.chain.overdue(self.heal_time);
        match overdue {
            None => self.progress.due_over = true,
            Some(detail) => hold!("L3", since <= DUE_MICROS, "{detail}"),
        }
        Ok(())
    }

    /// L4: history holds, within 60 s, everything that had happened when it came back.
    fn l4_history_catches_up(&mut self) -> Verdict {
        let back = self.healed_at.max(self.history.down_until);
        if self.progress.led_at.is_none() || self.progress.lag_zero || self.at < back {
            return Ok(());
        }
        let since = self.at - back;
        let goal = *self.progress.lag_goal.get_or_insert(self.chain.changes());
        let stored = self.history.through();
        self.progress.lag_zero = stored >= goal;
        hold!(
            "L4",
            stored >= goal || since <= LEAD_MICROS + LAG_MICROS,
            "history holds {stored} of {goal} changes {since} us after it came back"
        );
        Ok(())
    }

    /// L5: every core node applies what the log held; digests are compared at every index (S6).
    fn l5_all_agree(&mut self, since: u64) -> Verdict {
        if self.progress.led_at.is_none() || self.progress.agreed {
            return Ok(());
        }
        let goal = *self.progress.apply_goal.get_or_insert(self.chain.len());
        let late = self.core.iter().copied().find(|&node| self.nodes[node].applied < goal);
        self.progress.agreed = late.is_none();
        hold!(
            "L5",
            late.is_none() || since <= LEAD_MICROS + LAG_MICROS,
            "node {} has applied {} of {goal} entries {since} us after the healing",
            late.unwrap_or(0) + 1,
            self.nodes[late.unwrap_or(0)].applied
        );
        Ok(())
    }

    /// One more task, so that there is something to agree on.
    pub(super) fn fragile_submit(&mut self) {
        let number = self.progress.fresh.len() as u32;
        if number >= FRESH_TASKS {
            self.progress.fresh.push(false);
            self.fresh_submit(number, format!("fresh-{number}").into());
        }
    }

    fn fresh_submit(&mut self, number: u32, id: Box<str>) {
        let task = NewTask {
            id,
            name: "".into(),
            payload: Bytes::from_static(if number < FRESH_TASKS { b"fresh" } else { FRAGILE }),
            priority: 9,
            schedule: Schedule::Now,
            profile: fresh_profile(),
        };
        self.promises.invoked(&task);
        self.ask(0, Request::Submit(vec![task]), Purpose::Fresh(number), 0);
    }

    /// An answer to a fresh question.
    pub(super) fn fresh_answered(&mut self, number: u32, call: &Call, reply: Reply) {
        let id: Box<str> = match &call.request {
            Request::Submit(tasks) | Request::Resubmit(tasks) => tasks[0].id.clone(),
            Request::Wait { id, .. } => id.clone(),
            _ => return,
        };
        match reply {
            // Perhaps it ran; a caller who must know that it does takes another id.
            Reply::Submitted(results) if results.contains(&Err(Rejection::Forgotten)) => {
                self.fresh_submit(number, format!("{id}-again").into());
            }
            Reply::Submitted(results) if results.iter().all(Result::is_ok) => {
                self.ask(0, Request::Wait { id, run: None }, Purpose::Fresh(number), 0);
            }
            Reply::Task(view) if view.status == TaskStatus::Succeeded => self.fresh_done(number),
            // It has ended and left memory.
            Reply::NotLive { .. } if matches!(call.request, Request::Wait { .. }) => {
                self.fresh_done(number);
            }
            _ => self.fresh_again(call.clone()),
        }
    }

    fn fresh_done(&mut self, number: u32) {
        if let Some(done) = self.progress.fresh.get_mut(number as usize) {
            *done = true;
        }
    }

    /// Asks again, elsewhere, a little later.
    pub(super) fn fresh_again(&mut self, call: Call) {
        let call = super::requests::marked(call);
        self.agenda.push(self.at + FRESH_PAUSE_MICROS, Event::Again(Box::new(call)));
    }
}

/// What the worker of the liveness phase runs.
pub(super) fn fresh_profile() -> Profile {
    let retry = Retry {
        max_retries: 3,
        backoff: Backoff::Fixed,
        backoff_base_ms: 100,
        backoff_max_ms: 100,
        no_retry_exit: Vec::new(),
    };
    let (kind, queue) = (super::worker::KINDS[3].into(), "fresh".into());
    Profile { kind, queue, retry, run_timeout_ms: 10_000 }
}
