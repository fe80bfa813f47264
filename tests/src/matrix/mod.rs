//! The matrix of real faults: cases, each a load, a fault of real processes, networks, disks,
//! clocks or databases, and one verdict. docs/real-faults.md says how to add one.

mod database;
mod field;
mod machine;
mod network;
mod processes;
mod wires;

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use anyhow::Result;

pub use self::field::{Field, Figures, Ground, Plan, Prepared};

/// One line of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name on the command line.
    pub name: &'static str,
    /// What happens.
    pub says: &'static str,
    /// It belongs to the short form.
    pub short: bool,
    /// What it needs.
    pub plan: Plan,
    /// No pause between two starts of handlers may be longer, in seconds.
    pub gap_max: u64,
    /// The fault, from its first strike to its healing.
    pub strike: fn(&mut Field) -> Result<()>,
}

/// How a case ended.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// Every checker agreed.
    Passed(Figures),
    /// Something broke.
    Failed(String),
    /// The machine does not allow it.
    Skipped(String),
}

/// All cases, in their order.
pub fn cases() -> Vec<Case> {
    let parts = [processes::CASES, network::CASES, wires::CASES, machine::CASES, database::CASES];
    parts.iter().flat_map(|cases| cases.iter().copied()).collect()
}

/// Runs one case. What it started has ended when this returns, also when it panicked.
pub fn run(case: &Case) -> (Verdict, Duration) {
    let begin = Instant::now();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| attempt(case)));
    let verdict = match result {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::Failed(format!("{error:#}")),
        Err(_) => Verdict::Failed("the test panicked".to_owned()),
    };
    (verdict, begin.elapsed())
}

fn attempt(case: &Case) -> Result<Verdict> {
    let mut field = match Field::prepare(&case.plan)? {
        Prepared::Ready(field) => field,
        Prepared::Refused(reason) => return Ok(Verdict::Skipped(reason)),
    };
    let result = field.begin().and_then(|()| (case.strike)(&mut field));
    let result = result.and_then(|()| field.finish(Duration::from_secs(case.gap_max)));
    match result {
        Ok(figures) => Ok(Verdict::Passed(figures)),
        Err(error) => Ok(Verdict::Failed(format!("{error:#}{}", field.keep()))),
    }
}
