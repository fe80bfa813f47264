//! What clients were told, against what the log holds: S7, S8 and S9 at the edge, S17's promise.

use std::collections::BTreeMap;

use dtask_core::limits;
use dtask_core::node::Accepted;
use dtask_core::spec::NewTask;
use xxhash_rust::xxh3::xxh3_64;

use super::ledger::Ledger;
use super::{Verdict, hold};

/// A submit that was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledged {
    /// The serial that the client was told.
    pub serial: u64,
    /// Which node said so first.
    pub leader: usize,
    /// When it said so first.
    pub at: u64,
    /// Somebody was told that it is new. A leader that was paused with the acknowledgements in its
    /// mail says so after a later leader has answered a repeat, and is right.
    new: bool,
}

/// What clients asked for and were promised.
#[derive(Debug, Default)]
pub struct Promises {
    invoked: BTreeMap<Box<str>, Vec<u64>>,
    acknowledged: BTreeMap<Box<str>, Acknowledged>,
    /// Request ids that were answered, and when first.
    requests: BTreeMap<Box<str>, u64>,
}

impl Promises {
    /// A client is about to submit this.
    pub fn invoked(&mut self, task: &NewTask) {
        self.asked_for(&task.id, &task.payload);
    }

    /// A client is about to submit a task of this id and payload.
    pub fn asked_for(&mut self, id: &str, payload: &[u8]) {
        let specs = self.invoked.entry(id.into()).or_default();
        let spec = xxh3_64(payload);
        if !specs.contains(&spec) {
            specs.push(spec);
        }
    }

    /// S8: no phantom: a task in the log was asked for, with this payload.
    pub fn s8_created_was_invoked(&self, id: &str, payload: &[u8]) -> Verdict {
        let specs = self.invoked.get(id);
        hold!("S8", specs.is_some(), "task {id} exists and nobody asked for it");
        let known = specs.is_some_and(|specs| specs.contains(&xxh3_64(payload)));
        hold!("S8", known, "task {id} holds a payload that nobody submitted");
        Ok(())
    }

    /// S7 and S9 when an acknowledgement leaves: the log holds the task, and each repeat says the
    /// same serial. Returns who acknowledged it first, if it was before.
    pub fn acknowledged(
        &mut self,
        (leader, at): (usize, u64),
        id: &str,
        accepted: &Accepted,
        ledger: &Ledger,
    ) -> Result<Option<Acknowledged>, super::Violation> {
        let serial = accepted.serial;
        if !accepted.new && serial == 0 {
            // A repeat of a task that has left memory: only its id is still known.
            hold!("S9", ledger.find(id).is_some(), "{id} is said to repeat, and never was");
            return Ok(self.acknowledged.get(id).copied());
        }
        let record = ledger.record(serial);
        hold!(
            "S7",
            record.is_some_and(|record| &*record.id == id),
            "{id} is acknowledged as serial {serial}, which the log does not hold"
        );
        let before = self.acknowledged.get(id).copied();
        if let Some(before) = before {
            let reserved = ledger.record(before.serial).is_none_or(|record| record.done.is_none());
            hold!(
                "S9",
                before.serial == serial || !reserved,
                "{id} was acknowledged as serial {} and as {serial}",
                before.serial
            );
            hold!(
                "S9",
                before.serial != serial || !(before.new && accepted.new),
                "{id} was acknowledged as new twice with serial {serial}"
            );
        }
        // Another creation under an id whose reservation had passed counts from its own time.
        let same = before.filter(|before| before.serial == serial);
        let new = accepted.new || same.is_some_and(|before| before.new);
        let first = same.unwrap_or(Acknowledged { serial, leader, at, new });
        let first = Acknowledged { new, ..first };
        self.acknowledged.insert(id.into(), first);
        Ok(before)
    }

    /// S7 when the answer to a request with an id of its own leaves: the log holds the id.
    pub fn s7_an_answered_request_is_in_the_log(
        &mut self,
        at: u64,
        request: &str,
        ledger: &Ledger,
    ) -> Verdict {
        let known = ledger.request_since(request).is_some();
        hold!("S7", known, "request {request} is acknowledged, and not in the log");
        self.requests.entry(request.into()).or_insert(at);
        Ok(())
    }

    /// S9 when a node says that the task does not allow it: a request id that was answered before
    /// is recognised before the task is looked for.
    pub fn s9_an_answered_request_is_recognised(
        &self,
        asked_at: u64,
        request: &str,
        ledger: &Ledger,
    ) -> Verdict {
        let answered = self.requests.get(request).is_some_and(|&at| at < asked_at);
        let kept = ledger
            .request_since(request)
            .is_some_and(|since| ledger.at().since(since) < limits::DEDUP_WINDOW);
        hold!("S9", !(answered && kept), "request {request} came before, and is not recognised");
        Ok(())
    }

    /// S19, the part that needs no search: a linearizable read that began after a task was
    /// acknowledged does not miss it while it is unfinished. The node that answers has applied
    /// `applied`: of a task that runs again by a later entry it knows the end.
    pub fn s19_a_read_sees_what_was_acknowledged(
        &self,
        id: &str,
        (asked_at, applied): (u64, u64),
        ledger: &Ledger,
    ) -> Verdict {
        let Some(promise) = self.acknowledged.get(id).filter(|it| it.at < asked_at) else {
            return Ok(());
        };
        let ended = ledger
            .record(promise.serial)
            .is_none_or(|record| record.done.is_some() || record.back_at > applied);
        hold!("S19", ended, "{id}, acknowledged at {} us, is missed at {asked_at} us", promise.at);
        Ok(())
    }

    /// S7 at the end: each acknowledged task is in the final state unless the log ended it. `live`
    /// tells whether the state holds the id, `stored` whether history does.
    pub fn s7_nothing_acknowledged_is_lost(
        &self,
        ledger: &Ledger,
        live: impl Fn(&str) -> bool,
        stored: impl Fn(&str) -> bool,
    ) -> Verdict {
        for (id, promise) in &self.acknowledged {
            let Some(record) = ledger.record(promise.serial) else { continue };
            let gone = record.deleted && record.done.is_some();
            let ended = record.done.is_some();
            hold!(
                "S7",
                live(id) || gone || (ended && stored(id)),
                "acknowledged task {id} (serial {}, {:?}) is neither in state nor in history",
                promise.serial,
                record.done
            );
        }
        Ok(())
    }

    /// How many submits were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.len()
    }
}
