//! A flood of new work, once all else is well: more submits than the cluster may have on its way. What
//! is not new work must not wait behind it (P8.4): reports and fire times have a bound (L8).

use std::collections::BTreeMap;

use bytes::Bytes;
use dtask_core::id::{Serial, Token};
use dtask_core::node::{Rejection, Reply, Request};
use dtask_core::spec::{NewTask, Schedule};
use dtask_core::time::Timestamp;
use dtask_core::worker::{LeaderFrame, WorkerFrame};

use super::World;
use super::event::{Event, Life};
use super::trace::Probe;
use crate::check::{Verdict, hold};

/// Only where what may be on its way is at most this is the flood large enough to fill it.
const INFLIGHT_MAX: usize = 60_000;
/// It begins so long after the first leader: a sync that was slow before the healing is over.
const AFTER_MICROS: u64 = 6_000_000;
/// How long it lasts.
const FLOOD_MICROS: u64 = 5_000_000;
/// A sync takes this long meanwhile, so that what is on its way stays there.
const SYNC_MICROS: u64 = 30_000;
/// Between two submits.
const EVERY_MICROS: u64 = 4_000;
/// L8's bound: a commit takes some syncs and delays, and what is on its way is at most one bound.
const WAIT_MICROS: u64 = 2_000_000;
/// One in so many of its tasks runs at once, the others much later.
const RUNS_ONE_IN: u64 = 8;
/// How much later.
const LATER_MICROS: i64 = 10_000_000_000;

/// The newest refusal counts as an overload for this long.
const REFUSED_MICROS: u64 = 100_000;
/// Fire times that are watched at once.
const FIRES_MAX: usize = 64;

/// The flood of a seed.
#[derive(Debug, Default)]
pub struct Flood {
    /// When it ends, once it has begun.
    until: Option<u64>,
    /// Tasks asked for.
    made: u64,
    /// The usual sync.
    sync_micros: u64,
    /// When new work was refused last.
    refused_at: u64,
    /// Reports on their way to the leader, and since when.
    reports: BTreeMap<Token, u64>,
    /// Fire times that are due, and since when.
    fires: BTreeMap<(Serial, Timestamp), u64>,
}

impl World {
    /// Whether this seed has a flood: where little may be on its way.
    const fn is_floodable(&self) -> bool {
        self.config.inflight_bytes <= INFLIGHT_MAX
    }

    /// Whether the flood is over, or there is none.
    pub(super) fn flood_is_over(&self) -> bool {
        !self.is_floodable() || self.flood.until.is_some_and(|until| self.at > until)
    }

    /// The healed core leads: the flood begins.
    pub(super) fn flood_begins(&mut self) {
        if self.is_floodable() {
            self.flood.until = Some(self.at + AFTER_MICROS + FLOOD_MICROS);
            self.agenda.push(self.at + AFTER_MICROS, Event::Flood);
        }
    }

    /// One more submit, and a look at what must not wait behind it.
    pub(super) fn flood_goes_on(&mut self) -> Verdict {
        if self.flood.made == 0 {
            self.note(0, "a flood begins", [0, 0, 0]);
            self.flood.sync_micros =
                std::mem::replace(&mut self.config.disk.sync_micros, SYNC_MICROS);
        }
        self.l8_fires_do_not_wait()?;
        self.l8_reports_do_not_wait()?;
        if self.flood_is_over() {
            self.config.disk.sync_micros = self.flood.sync_micros;
            return Ok(());
        }
        self.agenda.push(self.at + EVERY_MICROS, Event::Flood);
        self.flood.made += 1;
        let leader = self.nodes.iter().position(|node| node.leads_since.is_some());
        let Some(node) = leader else { return Ok(()) };
        let number = self.flood.made;
        let now = number.is_multiple_of(RUNS_ONE_IN);
        let later = Timestamp::from_micros(self.true_wall() + LATER_MICROS);
        let task = NewTask {
            id: format!("flood-{number}").into(),
            name: "".into(),
            payload: Bytes::from(vec![b'f'; self.config.inflight_bytes / 4 - 600]),
            priority: 9,
            schedule: if now { Schedule::Now } else { Schedule::At(later) },
            profile: super::live::fresh_profile(),
        };
        self.promises.invoked(&task);
        self.largest_submit = self.largest_submit.max(task.id.len() + task.payload.len());
        self.aside(node, Request::Submit(vec![task]));
        Ok(())
    }

    /// A node answers what was asked aside.
    pub(super) fn flood_answered(&mut self, reply: &Reply) {
        if matches!(reply, Reply::Rejected(Rejection::Full { .. })) {
            self.flood.refused_at = self.at;
        }
    }

    fn is_overloaded(&self) -> bool {
        self.flood.refused_at > 0 && self.at - self.flood.refused_at < REFUSED_MICROS
    }

    /// A worker says something to a node.
    pub(super) fn flood_hears_worker(&mut self, node: Life, frame: &WorkerFrame) {
        let host = &self.nodes[node.who];
        // A process that is gone hears nothing.
        let watched = !self.flood_is_over() && host.leads_since.is_some() && host.life == node.life;
        if let WorkerFrame::Reports(reports) = frame
            && watched
            && self.flood.made > 0
        {
            for report in reports {
                self.flood.reports.entry(report.token).or_insert(self.at);
            }
        }
    }

    /// A node says something to a worker.
    pub(super) fn flood_hears_leader(&mut self, frame: &LeaderFrame) {
        let LeaderFrame::Acknowledged(ranges) = frame else { return };
        let before = self.flood.reports.len();
        self.flood
            .reports
            .retain(|token, _| !ranges.iter().any(|(first, last)| first <= token && token <= last));
        if self.flood.reports.len() < before && self.is_overloaded() {
            self.probes.hit(Probe::ReportUnderLoad);
        }
    }

    /// Leadership ends or begins: what was on its way begins anew.
    pub(super) fn flood_sees_another_leader(&mut self) {
        self.flood.reports.clear();
        self.flood.fires.clear();
    }

    /// L8: a report is agreed in time, whatever new work there is.
    fn l8_reports_do_not_wait(&self) -> Verdict {
        for (token, since) in &self.flood.reports {
            let waits = self.at - since;
            hold!("L8", waits <= WAIT_MICROS, "the report of {token} has waited for {waits} us");
        }
        Ok(())
    }

    /// L8: a fire time is taken in time, whatever new work there is.
    fn l8_fires_do_not_wait(&mut self) -> Verdict {
        if !self.nodes.iter().any(|node| node.leads_since.is_some()) {
            return Ok(());
        }
        let due = self.chain.state().due_schedules(self.chain.ledger().at(), FIRES_MAX);
        let due: Vec<_> = due.iter().map(|it| (it.task.serial, it.fire_time)).collect();
        let before = self.flood.fires.len();
        self.flood.fires.retain(|fire, _| due.contains(fire));
        if self.flood.fires.len() < before && self.is_overloaded() {
            self.probes.hit(Probe::FiredUnderLoad);
        }
        for fire in due {
            let since = *self.flood.fires.entry(fire).or_insert(self.at);
            let waits = self.at - since;
            hold!("L8", waits <= WAIT_MICROS, "fire time {} waits for {waits} us", fire.1);
        }
        Ok(())
    }
}
