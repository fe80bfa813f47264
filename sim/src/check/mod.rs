//! The checkers: each invariant is one function with one id, judged from outside, by what the
//! World saw leave a machine, what its disk holds and what the log says. docs/invariants.md lists
//! them.

pub mod answers;
pub mod calendar;
pub mod chain;
pub mod durable;
pub mod effects;
pub mod gaps;
pub mod history;
pub mod ledger;
pub mod promises;
pub mod wire;

use std::fmt;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `S4`, `L1`, … or `PANIC`.
    pub id: &'static str,
    /// What was seen, with the numbers.
    pub detail: String,
}

impl Violation {
    /// A violation of `id`.
    pub fn new(id: &'static str, detail: impl Into<String>) -> Self {
        Self { id, detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.detail)
    }
}

/// What a checker says.
pub type Verdict = Result<(), Violation>;

/// Fails with `id` and the formatted detail unless the condition holds.
macro_rules! hold {
    ($id:literal, $condition:expr, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::check::Violation::new($id, format!($($detail)+)));
        }
    };
}
pub(crate) use hold;
