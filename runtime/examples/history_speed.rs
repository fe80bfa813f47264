//! How fast history stores task lives (a row of `tasks` and one of `execution_logs` each):
//! `cargo run --release -p dtask-runtime --example history_speed -- [LIVES] [BATCH]`.
//!
//! Once with time-ordered ids, as our clients make them, and once with random ones.

use std::time::{Duration, Instant};

use bytes::Bytes;
use dtask_core::id::{ClusterId, RunNumber, Token};
use dtask_core::spec::{AttemptOutcome, Backoff, Profile, Retry};
use dtask_core::state::history::{AttemptRow, HistoryBatch, TaskRow};
use dtask_core::state::view::{AttemptView, RunCause, RunView, TaskStatus, TaskView};
use dtask_core::time::Timestamp;
use dtask_runtime::history::{SqliteWriter, Writer as _};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse().expect("a number"));
    let lives: u64 = arguments.next().unwrap_or(200_000);
    let batch: u64 = arguments.next().unwrap_or(1_000);
    for (name, ordered) in [("ordered", true), ("random", false)] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("history.db");
        let mut writer = SqliteWriter::new(path.clone());
        let cursor = writer.open(ClusterId(1)).await.expect("a new file");
        let (mut storing, mut slowest) = (Duration::ZERO, Duration::ZERO);
        let mut cpu = Duration::ZERO;
        for first in (0..lives).step_by(batch as usize) {
            let last = (first + batch).min(lives);
            let batch = HistoryBatch {
                cluster: ClusterId(1),
                epoch: cursor.epoch,
                after: first,
                through: last,
                gap: None,
                tasks: (first..last).map(|number| task(number, ordered)).collect(),
                runs: Vec::new(),
                attempts: (first..last).map(|number| attempt(number, ordered)).collect(),
            };
            let (start, cpu_start) = (Instant::now(), cpu_time());
            writer.store(&batch).await.expect("stored");
            slowest = slowest.max(start.elapsed());
            storing += start.elapsed();
            cpu += cpu_time() - cpu_start;
        }
        writer.close().await;
        let bytes = std::fs::metadata(&path).expect("the file").len();
        println!(
            "{name:8} ids: {lives} lives in batches of {batch}: {:.0} lives/s, {:.2} us of CPU a \
             life, slowest batch {slowest:.1?}, {} bytes a life",
            lives as f64 / storing.as_secs_f64(),
            cpu.as_secs_f64() * 1e6 / lives as f64,
            bytes / lives
        );
    }
}

/// Of all threads of this process.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// 26 characters, as a UUIDv7 in base 32 would have.
fn id(number: u64, ordered: bool) -> Box<str> {
    let mixed = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (head, tail) = if ordered { (number, mixed) } else { (mixed, number) };
    format!("{head:016x}{:010x}", tail & 0xff_ffff_ffff).into()
}

fn task(number: u64, ordered: bool) -> TaskRow {
    let id = id(number, ordered);
    let at = Timestamp::from_micros(1_767_225_600_000_000 + number as i64 * 10);
    let run = RunView {
        run: RunNumber(1),
        cause: RunCause::Submit,
        scheduled_for: at,
        status: TaskStatus::Succeeded,
        reason: "".into(),
        attempts: 1,
        retry_of: None,
    };
    let retry = Retry {
        max_retries: 3,
        backoff: Backoff::Exponential,
        backoff_base_ms: 1_000,
        backoff_max_ms: 600_000,
        no_retry_exit: Vec::new(),
    };
    TaskRow {
        number,
        deleted: false,
        view: TaskView {
            name: id.clone(),
            id,
            serial: number,
            profile: Profile {
                kind: "exec".into(),
                queue: "default".into(),
                retry,
                run_timeout_ms: 86_400_000,
            }
            .into(),
            payload: Bytes::from_static(&[b'x'; 100]),
            priority: 5,
            recurrence: None,
            at: None,
            status: TaskStatus::Succeeded,
            wait: None,
            last_run: Some(run),
            runs_count: 1,
            last_success_at: Some(at),
            last_failure_at: None,
            consecutive_failures: 0,
            revision: 1,
            created_at: at,
            updated_at: at,
            next_run_at: None,
            finished_at: Some(at),
        },
    }
}

fn attempt(number: u64, ordered: bool) -> AttemptRow {
    let at = Timestamp::from_micros(1_767_225_600_000_000 + number as i64 * 10);
    AttemptRow {
        number,
        task_id: id(number, ordered),
        incarnation: number,
        run: RunNumber(1),
        queue: "default".into(),
        view: AttemptView {
            token: Token(number + 1),
            run: RunNumber(1),
            attempt: 1,
            worker: "worker-1".into(),
            outcome: Some(AttemptOutcome::Succeeded),
            stop_requested: false,
            output: Bytes::from_static(b"{\"ok\":true}"),
            tail: Bytes::new(),
            error: "".into(),
            exit_code: Some(0),
            scheduled_for: at,
            opened_at: at,
            started_at: Some(at),
            finished_at: Some(at),
        },
    }
}
