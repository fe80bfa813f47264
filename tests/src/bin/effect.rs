//! A user's handler that leaves its mark: appends `start` and `end` lines with its fencing token
//! to the file named by `EFFECTS`, and works as many milliseconds as its payload says.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

fn main() -> std::io::Result<()> {
    let mut payload = String::new();
    std::io::stdin().read_to_string(&mut payload)?;
    let work_ms = payload.trim().parse().unwrap_or(0);
    let mut effects = OpenOptions::new().create(true).append(true).open(variable("EFFECTS"))?;
    mark(&mut effects, "start")?;
    std::thread::sleep(Duration::from_millis(work_ms));
    mark(&mut effects, "end")?;
    println!("{{\"worked_ms\":{work_ms}}}");
    Ok(())
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
