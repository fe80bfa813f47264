//! What handlers did outside: S11's half that users feel (never two live handlers of one run, no
//! older token after a newer one), S17 and S8 at the moment a handler starts.

use std::collections::{BTreeMap, BTreeSet};

use dtask_core::id::{InstanceId, Token};
use dtask_core::worker::Assignment;

use super::ledger::Ledger;
use super::{Verdict, Violation, hold};

/// Which run: the task's id and the run's number.
pub type RunKey = (Box<str>, u32);

#[derive(Clone, Copy, Debug)]
struct Live {
    token: Token,
    instance: InstanceId,
}

/// The world outside the scheduler.
#[derive(Debug, Default)]
pub struct Outside {
    live: BTreeMap<RunKey, Vec<Live>>,
    newest: BTreeMap<RunKey, Token>,
    started: BTreeSet<(InstanceId, Token)>,
    cancelled: BTreeSet<u64>,
}

impl Outside {
    /// A worker's instance starts a handler: for an attempt that was agreed before the worker heard
    /// of it (P7.2). `frozen` tells which instances are paused: their handlers stand still, and the
    /// pause may outlast the lease.
    pub fn started(
        &mut self,
        ledger: &Ledger,
        instance: InstanceId,
        assignment: &Assignment,
        frozen: impl Fn(InstanceId) -> bool,
    ) -> Verdict {
        let token = assignment.token;
        let Some(attempt) = ledger.attempt(token) else {
            let detail =
                format!("instance {instance} starts token {token}, which was never opened");
            return Err(Violation::new("S8", detail));
        };
        hold!(
            "S11",
            attempt.instance == instance || attempt.instance == InstanceId(0),
            "instance {instance} starts token {token} of instance {}",
            attempt.instance
        );
        hold!(
            "S11",
            self.started.insert((instance, token)),
            "instance {instance} started token {token} twice"
        );
        self.s17_nothing_starts_after_an_acknowledged_cancel(attempt.serial, assignment)?;
        let key = (assignment.task_id.clone(), assignment.run.0);
        let live = self.live.entry(key).or_default();
        for other in live.iter() {
            hold!(
                "S11",
                frozen(other.instance),
                "task {} run {}: token {token} starts at instance {instance} while token {} still \
                 runs at instance {}",
                assignment.task_id,
                assignment.run,
                other.token,
                other.instance
            );
        }
        live.push(Live { token, instance });
        Ok(())
    }

    /// A handler has ended, or died with its worker.
    pub fn ended(&mut self, key: &RunKey, token: Token) {
        if let Some(live) = self.live.get_mut(key) {
            live.retain(|other| other.token != token);
            if live.is_empty() {
                self.live.remove(key);
            }
        }
    }

    /// A handler writes to a store that compares tokens: tells whether the store took it.
    pub fn effect(&mut self, key: &RunKey, token: Token) -> bool {
        let newest = self.newest.entry(key.clone()).or_default();
        if token < *newest {
            return false;
        }
        *newest = token;
        true
    }

    /// A client was told that this creation of a task is cancelled.
    pub fn cancel_acknowledged(&mut self, serial: u64) {
        self.cancelled.insert(serial);
    }

    /// S17: nothing starts after an acknowledged cancel.
    fn s17_nothing_starts_after_an_acknowledged_cancel(
        &self,
        serial: u64,
        assignment: &Assignment,
    ) -> Verdict {
        hold!(
            "S17",
            !self.cancelled.contains(&serial),
            "task {} starts with token {} after its cancel was acknowledged",
            assignment.task_id,
            assignment.token
        );
        Ok(())
    }
}
