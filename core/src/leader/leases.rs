//! The leases of open attempts, as only the leader judges them (P7.3–P7.8): by its monotonic
//! clock, per token, never shorter than what any worker was told.

use alloc::collections::{BTreeMap, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;

use crate::id::{InstanceId, RecordRef, Token};
use crate::limits;
use crate::time::Instant;

/// After a stop was sent, how long the leader goes on extending the token: time for the worker's
/// own grace and its report, with room for a slow disk (P7.6).
const STOP_PATIENCE: Duration = Duration::from_secs(3 * limits::STOP_GRACE.as_secs());
/// The leader's run timeout is the backstop: it lets the worker's clock speak first (P6.4).
const BACKSTOP_SLACK: Duration = limits::STOP_GRACE;

/// An open attempt and its worker's right to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The life of the worker process that it belongs to.
    pub instance: InstanceId,
    /// The run's record.
    pub target: RecordRef,
    /// When the run timeout's backstop strikes; `None` once it has, or after a stop.
    pub timeout: Option<Instant>,
    /// A close by the worker's report is proposed.
    pub closing: bool,
    /// A close as lost is proposed: nothing extends it any more.
    lost: bool,
    /// When the attempt was last sent to its worker.
    pub sent: Instant,
    /// When the lease ends without a renewal.
    expires: Instant,
    /// After a stop: when the leader stops extending.
    stop_by: Option<Instant>,
}

/// What has fallen due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The lease ended without a word.
    Lost(Token, RecordRef),
    /// The run timeout passed by the leader's clock.
    TimedOut(Token, RecordRef),
}

/// All leases of one leadership.
#[derive(Debug)]
pub struct Leases {
    ttl: Duration,
    open: BTreeMap<Token, Lease>,
    /// One wish an open token, perhaps early, perhaps of a token that has closed since.
    heap: BinaryHeap<Reverse<(Instant, Token)>>,
}

impl Leases {
    /// No leases; each will last `ttl`.
    pub const fn new(ttl: Duration) -> Self {
        Self { ttl, open: BTreeMap::new(), heap: BinaryHeap::new() }
    }

    /// How long a lease lasts.
    pub const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Starts a full lease at `now`: when an attempt opens, and for every open one when the
    /// leader wakes, whatever it was told before (P7.3).
    pub fn start(
        &mut self,
        now: Instant,
        token: Token,
        target: RecordRef,
        instance: InstanceId,
        run_left: Duration,
    ) {
        let lease = Lease {
            instance,
            target,
            timeout: Some(now + run_left + BACKSTOP_SLACK),
            closing: false,
            lost: false,
            sent: now,
            expires: now + self.ttl,
            stop_by: None,
        };
        self.open.insert(token, lease);
        self.heap.push(Reverse((lease.next(), token)));
    }

    /// Extends a token for its instance; false when it is not that instance's to hold any more
    /// (closed, being closed as lost, or stopped too long ago).
    pub fn extend(&mut self, now: Instant, token: Token, instance: InstanceId) -> bool {
        let Some(lease) = self.open.get_mut(&token) else { return false };
        if lease.instance != instance || lease.is_over(now) {
            return false;
        }
        lease.expires = now + self.ttl;
        true
    }

    /// The attempt was told to stop: no backstop from here on, and an end to the leader's
    /// patience.
    pub fn stop(&mut self, now: Instant, token: Token) {
        if let Some(lease) = self.open.get_mut(&token) {
            lease.timeout = None;
            lease.stop_by.get_or_insert(now + STOP_PATIENCE);
        }
    }

    /// The close that was proposed did not come about: the lease is judged anew.
    pub fn reopen(&mut self, token: Token) {
        if let Some(lease) = self.open.get_mut(&token) {
            lease.closing = false;
            lease.lost = false;
            self.heap.push(Reverse((lease.next(), token)));
        }
    }

    /// The attempt has ended.
    pub fn close(&mut self, token: Token) -> Option<Lease> {
        let lease = self.open.remove(&token);
        if self.heap.len() > 2 * self.open.len() + 64 {
            self.rebuild();
        }
        lease
    }

    /// One lease.
    pub fn lease(&self, token: Token) -> Option<&Lease> {
        self.open.get(&token)
    }

    /// One lease, to mark.
    pub fn lease_mut(&mut self, token: Token) -> Option<&mut Lease> {
        self.open.get_mut(&token)
    }

    /// Every open token with its lease, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Token, &Lease)> {
        self.open.iter().map(|(token, lease)| (*token, lease))
    }

    /// The process was stopped for `gap`: workers could not be heard meanwhile, so every lease
    /// lasts that much longer (P7.8).
    pub fn add_gap(&mut self, gap: Duration) {
        for lease in self.open.values_mut() {
            lease.expires = lease.expires + gap;
        }
        self.rebuild();
    }

    /// Takes what has fallen due, at most `max`. A lost token is never extended again; a
    /// timed out one loses its backstop.
    pub fn due(&mut self, now: Instant, max: usize) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < max {
            let Some(&Reverse((at, token))) = self.heap.peek() else { break };
            if at > now {
                break;
            }
            self.heap.pop();
            let Some(lease) = self.open.get_mut(&token) else { continue };
            if lease.expires <= now {
                // A report on its way to commit decides by itself.
                if !lease.closing && !lease.lost {
                    lease.lost = true;
                    due.push(Due::Lost(token, lease.target));
                }
                continue;
            } else if lease.timeout.is_some_and(|timeout| timeout <= now) {
                lease.timeout = None;
                due.push(Due::TimedOut(token, lease.target));
            }
            self.heap.push(Reverse((lease.next().max(now + limits::TICK), token)));
        }
        due
    }

    /// When to call [`Leases::due`] next; perhaps early.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    fn rebuild(&mut self) {
        self.heap =
            self.open.iter().map(|(token, lease)| Reverse((lease.next(), *token))).collect();
    }
}

impl Lease {
    /// Whether nothing extends it any more.
    // Upholds S11: a lease that has ended is lost even while its Close is on the way.
    pub fn is_over(&self, now: Instant) -> bool {
        self.lost || self.expires <= now || self.stop_by.is_some_and(|by| by <= now)
    }

    fn next(&self) -> Instant {
        self.timeout.map_or(self.expires, |timeout| timeout.min(self.expires))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Serial, Slot};

    const TTL: Duration = Duration::from_secs(15);
    const HOUR: Duration = Duration::from_secs(3_600);
    const WORKER: InstanceId = InstanceId(7);
    const TARGET: RecordRef = RecordRef { slot: Slot(1), serial: Serial(1) };

    fn at(seconds: u64) -> Instant {
        Instant::from_micros(seconds * 1_000_000)
    }

    fn one_lease() -> Leases {
        let mut leases = Leases::new(TTL);
        leases.start(at(0), Token(1), TARGET, WORKER, HOUR);
        leases
    }

    #[test]
    fn silent_worker_loses_its_attempt_after_a_full_ttl() {
        let mut leases = one_lease();
        assert!(leases.due(at(14), 10).is_empty());
        assert_eq!(leases.due(at(15), 10), [Due::Lost(Token(1), TARGET)]);
    }

    #[test]
    fn renewed_lease_lasts_a_full_ttl_from_the_renewal() {
        let mut leases = one_lease();
        assert!(leases.extend(at(10), Token(1), WORKER));
        assert!(leases.due(at(24), 10).is_empty());
        assert_eq!(leases.due(at(25), 10), [Due::Lost(Token(1), TARGET)]);
    }

    #[test]
    fn ended_lease_is_not_extended() {
        let mut leases = one_lease();
        leases.due(at(15), 10);
        assert!(!leases.extend(at(15), Token(1), WORKER));
    }

    #[test]
    fn another_instance_extends_nothing() {
        assert!(!one_lease().extend(at(1), Token(1), InstanceId(8)));
    }

    #[test]
    fn gap_between_turns_is_added_to_every_lease() {
        let mut leases = one_lease();
        leases.add_gap(Duration::from_secs(20));
        assert!(leases.due(at(34), 10).is_empty());
        assert_eq!(leases.due(at(35), 10).len(), 1);
    }

    #[test]
    fn stopped_attempt_is_extended_only_for_the_grace() {
        let mut leases = one_lease();
        leases.stop(at(1), Token(1));
        assert!(leases.extend(at(10), Token(1), WORKER));
        assert!(!leases.extend(at(16), Token(1), WORKER));
    }

    #[test]
    fn run_timeout_strikes_once() {
        let mut leases = Leases::new(TTL);
        leases.start(at(0), Token(1), TARGET, WORKER, Duration::from_secs(5));
        assert_eq!(leases.due(at(10), 10), [Due::TimedOut(Token(1), TARGET)]);
        assert!(leases.due(at(11), 10).is_empty());
    }
}
