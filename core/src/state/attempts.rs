//! Attempts by token: open ones, and closed ones until history has them. A record names its latest
//! attempt, each attempt the one before it; a chain ends where history has taken over.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::by_token::ByToken;
use crate::codec::flat::Put;
use crate::id::InstanceId;
use crate::spec::{AttemptOutcome, StopWhy};
use crate::time::Timestamp;

/// An attempt, open or closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Its run's record.
    pub(super) slot: u32,
    pub(super) serial: u64,
    /// From 1.
    pub(super) number: u16,
    pub(super) instance: InstanceId,
    /// Replicated time.
    pub(super) opened_at: Timestamp,
    /// A stop was agreed (P7.6).
    pub(super) stop: Option<StopWhy>,
    /// The number of its latest change (P9.1).
    pub(super) change: u64,
    /// The token of the attempt before it, zero for none.
    pub(super) previous: u64,
    /// How it ended; `None` while it runs.
    pub(super) ending: Option<Box<Ending>>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) outcome: AttemptOutcome,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    pub(super) exit_code: Option<i32>,
    /// Error, output and tail in one allocation, in this order.
    texts: Box<[u8]>,
    error_len: u32,
    output_len: u32,
}

impl Ending {
    pub(super) fn new(
        outcome: AttemptOutcome,
        times: (Option<Timestamp>, Option<Timestamp>),
        exit_code: Option<i32>,
        texts: (&str, &[u8], &[u8]),
    ) -> Self {
        let (error, output, tail) = texts;
        let mut packed = Vec::with_capacity(error.len() + output.len() + tail.len());
        packed.raw(error.as_bytes());
        packed.raw(output);
        packed.raw(tail);
        Self {
            outcome,
            started_at: times.0,
            finished_at: times.1,
            exit_code,
            texts: packed.into_boxed_slice(),
            error_len: error.len() as u32,
            output_len: output.len() as u32,
        }
    }

    /// What it weighs beyond its fixed part.
    pub(super) const fn bytes(&self) -> u64 {
        self.texts.len() as u64
    }

    pub(super) fn error(&self) -> &str {
        core::str::from_utf8(self.texts.get(..self.error_len as usize).unwrap_or(&[])).unwrap_or("")
    }

    pub(super) fn output(&self) -> &[u8] {
        let from = self.error_len as usize;
        self.texts.get(from..from + self.output_len as usize).unwrap_or(&[])
    }

    pub(super) fn tail(&self) -> &[u8] {
        self.texts.get(self.error_len as usize + self.output_len as usize..).unwrap_or(&[])
    }
}

/// The two tables.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    open: ByToken<Attempt>,
    closed: ByToken<Attempt>,
}

impl Attempts {
    pub(super) fn insert(&mut self, token: u64, attempt: Attempt) {
        if attempt.ending.is_none() {
            self.open.insert(token, attempt);
        } else {
            self.closed.insert(token, attempt);
        }
    }

    pub(super) fn open(&self, token: u64) -> Option<&Attempt> {
        self.open.at(token)
    }

    pub(super) fn open_mut(&mut self, token: u64) -> Option<&mut Attempt> {
        self.open.at_mut(token)
    }

    /// Open or closed.
    pub(super) fn at(&self, token: u64) -> Option<&Attempt> {
        self.closed.at(token).or_else(|| self.open.at(token))
    }

    pub(super) fn take_open(&mut self, token: u64) -> Option<Attempt> {
        self.open.take(token)
    }

    pub(super) fn take_closed(&mut self, token: u64) -> Option<Attempt> {
        self.closed.take(token)
    }

    pub(super) fn closed_mut(&mut self, token: u64) -> Option<&mut Attempt> {
        self.closed.at_mut(token)
    }

    /// Open attempts, oldest first.
    pub(super) fn all_open(&self) -> impl Iterator<Item = (u64, &Attempt)> {
        self.open.from(0)
    }

    /// The first attempt, open or closed, with this token or a later one.
    pub(super) fn from(&self, token: u64) -> Option<(u64, &Attempt)> {
        let open = self.open.from(token).next();
        let closed = self.closed.from(token).next();
        match (open, closed) {
            (Some(a), Some(b)) => Some(if a.0 < b.0 { a } else { b }),
            (one, other) => one.or(other),
        }
    }

    /// A run's attempts in memory, newest first.
    pub(super) fn chain(&self, last: u64) -> impl Iterator<Item = (u64, &Attempt)> {
        let mut token = last;
        core::iter::from_fn(move || {
            let attempt = self.at(token)?;
            let named = token;
            token = attempt.previous;
            Some((named, attempt))
        })
    }

    pub(super) fn closed_len(&self) -> usize {
        self.closed.len()
    }

    pub(super) fn open_len(&self) -> usize {
        self.open.len()
    }
}
