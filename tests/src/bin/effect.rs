//! A user's handler that leaves its mark: appends `start` and `end` lines with its fencing token
//! to the file named by `EFFECTS`, in between a `live` line every 100 ms.
//!
//! Its payload is a number of milliseconds to work, then perhaps a number of attempts that fail.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

const SIGN_OF_LIFE: Duration = Duration::from_millis(100);

fn main() -> std::io::Result<ExitCode> {
    let mut payload = String::new();
    std::io::stdin().read_to_string(&mut payload)?;
    let mut numbers = payload.split_whitespace().map(|word| word.parse().unwrap_or(0));
    let work = Duration::from_millis(numbers.next().unwrap_or(0));
    let failing = numbers.next().unwrap_or(0);
    let mut effects = OpenOptions::new().create(true).append(true).open(variable("EFFECTS"))?;
    mark(&mut effects, "start")?;
    let begin = Instant::now();
    while let Some(left) = work.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) {
        std::thread::sleep(left.min(SIGN_OF_LIFE));
        if left > SIGN_OF_LIFE {
            mark(&mut effects, "live")?;
        }
    }
    mark(&mut effects, "end")?;
    if variable("DTASK_TASK_ATTEMPT").parse().is_ok_and(|attempt: u64| attempt <= failing) {
        return Ok(ExitCode::FAILURE);
    }
    println!("{{\"worked_ms\":{}}}", work.as_millis());
    Ok(ExitCode::SUCCESS)
}

/// One line, written at once: `what token task run attempt nanoseconds`.
fn mark(effects: &mut File, what: &str) -> std::io::Result<()> {
    let now = clock_gettime(ClockId::Monotonic);
    let line = format!(
        "{what} {} {} {} {} {}\n",
        variable("DTASK_TASK_FENCING_TOKEN"),
        variable("DTASK_TASK_ID"),
        variable("DTASK_TASK_RUN"),
        variable("DTASK_TASK_ATTEMPT"),
        now.tv_sec * 1_000_000_000 + now.tv_nsec
    );
    effects.write_all(line.as_bytes())
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"))
}
