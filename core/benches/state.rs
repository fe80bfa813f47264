//! What a waiting task weighs, and what the steps of a task's life cost in `apply` alone.
//!
//! `cargo bench -p dtask-core --bench state` prints the weights first (bytes asked of the
//! allocator, and the process's resident memory), then criterion's timings. All times are CPU time
//! of this process, so that other work on the machine changes them little; it is counted by the
//! kernel's tick, so a single pause is known to a few milliseconds only.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dtask_core::codec::flat::{EntryBuilder, EntryRef};
use dtask_core::id::{InstanceId, Slot, Token};
use dtask_core::limits::ENTRY_COMMANDS_MAX;
use dtask_core::spec::{AttemptOutcome, Backoff, Profile, Retry};
use dtask_core::state::snapshot::Loader;
use dtask_core::state::{Applied, Changes, Close, Command, Create, IndexKey, Open, Start, State};
use dtask_core::time::Timestamp;

const TASKS: usize = 1_000_000;
const WORKER: InstanceId = InstanceId(1);
const START: Timestamp = Timestamp::from_seconds(1_000_000);

/// Counts what is asked of the system's allocator.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to `System` unchanged; the counter does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller upholds `dealloc`'s contract.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn profile() -> Profile {
    Profile {
        kind: "resize".into(),
        queue: "default".into(),
        retry: Retry {
            max_retries: 3,
            backoff: Backoff::Exponential,
            backoff_base_ms: 1_000,
            backoff_max_ms: 60_000,
            no_retry_exit: Vec::new(),
        },
        run_timeout_ms: 60_000,
    }
}

/// A state, and entries for it.
struct Bench {
    state: State,
    index: u64,
    changes: Changes,
    created: u64,
}

impl Bench {
    fn new() -> Self {
        let state = State::new(IndexKey([3; 16]));
        let mut bench = Self { state, index: 0, changes: Changes::default(), created: 0 };
        bench.apply(&entry(START, &[Command::RegisterInstance { instance: WORKER, name: "w" }]));
        bench
    }

    fn apply(&mut self, entry: &[u8]) {
        self.index += 1;
        self.changes.clear();
        self.state.apply(self.index, entry, &mut self.changes).expect("the level is ours");
    }

    /// Submits `count` tasks of 100 bytes.
    fn submit(&mut self, count: usize, start: impl Fn(u64) -> Start) {
        for first in (0..count).step_by(ENTRY_COMMANDS_MAX) {
            let entry = self.creates(ENTRY_COMMANDS_MAX.min(count - first), &start);
            self.apply(&entry);
        }
    }

    fn creates(&mut self, count: usize, start: impl Fn(u64) -> Start) -> Bytes {
        let mut builder = EntryBuilder::new(1, START);
        let profile = builder.intern(&profile());
        for _ in 0..count {
            self.created += 1;
            // 26 characters, as a ULID has.
            let id = format!("{:026}", self.created);
            builder.push(&Command::Create(Create {
                id: &id,
                name: "",
                payload: &[7; 100],
                profile,
                priority: 5,
                retry: false,
                start: start(self.created),
                open: None,
            }));
        }
        builder.finish()
    }

    fn store_all(&mut self) {
        while self.state.stored() < self.state.changes() {
            let through = self.state.changes();
            self.apply(&entry(START, &[Command::HistoryStored { epoch: 1, through }]));
        }
    }

    /// `count` tasks from submit to stored, in entries of `count` commands.
    fn live(&mut self, count: usize) {
        let submit = self.creates(count, |_| Start::Ready);
        self.apply(&submit);
        let mut opens = EntryBuilder::new(1, START);
        for answer in &self.changes.answers {
            if let &Applied::Created { task: target, .. } = answer {
                opens.push(&Command::Open(Open { target, attempt: 1, instance: WORKER }));
            }
        }
        self.apply(&opens.finish());
        let mut closes = EntryBuilder::new(1, START);
        for &(token, target, _) in &self.changes.opened {
            closes.push(&Command::Close(close(target.slot, token)));
        }
        self.apply(&closes.finish());
        self.store_all();
    }
}

fn entry(at: Timestamp, commands: &[Command<'_>]) -> Bytes {
    let mut builder = EntryBuilder::new(1, at);
    for command in commands {
        builder.push(command);
    }
    builder.finish()
}

fn close(slot: Slot, token: Token) -> Close<'static> {
    Close {
        slot,
        token,
        outcome: AttemptOutcome::Succeeded,
        started_at: Some(START),
        finished_at: Some(START),
        exit_code: Some(0),
        retryable: true,
        output: b"",
        error: "",
        tail: b"",
    }
}

/// Spread over a day, so that the heap is not fed in order.
fn later(number: u64) -> Start {
    let spread = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 86_400_000_000;
    Start::At(START.plus_micros(1_000_000 + spread as i64))
}

fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<usize>().ok());
    kib.unwrap_or(0) * 1_024
}

/// CPU time that this process has used, by the scheduler's count.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The CPU time of `iterations` calls.
fn timed(iterations: u64, mut call: impl FnMut()) -> Duration {
    let begun = cpu();
    for _ in 0..iterations {
        call();
    }
    cpu() - begun
}

/// What to weigh: its name, when a task starts, whether history has it.
type Kind = (&'static str, fn(u64) -> Start, bool);

fn weigh() {
    let kinds: [Kind; 3] = [
        ("waiting, stored", later, true),
        ("waiting, not stored", later, false),
        ("ready, stored", |_| Start::Ready, true),
    ];
    for (name, start, stored) in kinds {
        let (held, before) = (HELD.load(Ordering::Relaxed), resident());
        let mut bench = Bench::new();
        bench.submit(TASKS, start);
        if stored {
            bench.store_all();
        }
        let held = HELD.load(Ordering::Relaxed) - held;
        let grown = resident().saturating_sub(before);
        println!(
            "weight, {name}: {} bytes asked for, {} resident, a task of 100 bytes at {TASKS}",
            held / TASKS,
            grown / TASKS
        );
        drop(bench);
    }
}

/// The longest pauses while a million tasks are there, which no average shows.
fn pauses() {
    let mut bench = Bench::new();
    let mut worst = Duration::ZERO;
    for _ in 0..TASKS / ENTRY_COMMANDS_MAX {
        let entry = bench.creates(ENTRY_COMMANDS_MAX, later);
        let begun = cpu();
        bench.apply(&entry);
        worst = worst.max(cpu() - begun);
    }
    println!("longest entry of 1,000 submits up to {TASKS} tasks: {worst:?}");
    let (mut worst, mut stream, begun) = (Duration::ZERO, Vec::new(), cpu());
    bench.state.begin_snapshot();
    loop {
        let step_begun = cpu();
        let step = bench.state.step_snapshot(256 << 10).expect("the walk agrees");
        worst = worst.max(cpu() - step_begun);
        stream.push(step.data);
        if step.done {
            break;
        }
    }
    println!("snapshot walk: {:?} in all, longest step of 256 KiB {worst:?}", cpu() - begun);
    let (mut loader, begun) = (Loader::new(), cpu());
    for piece in &stream {
        loader.push(piece).expect("it is whole");
    }
    let pushed = cpu() - begun;
    let loaded = loader.finish().expect("it is whole");
    println!("snapshot load: {pushed:?} in pieces, {:?} to finish", cpu() - begun - pushed);
    assert_eq!(loaded.digest(), bench.state.digest());
    let wake = entry(START.plus_micros(100_000_000_000), &[]);
    let begun = cpu();
    while bench.state.next_wake().is_some() {
        bench.apply(&wake);
    }
    println!("waking {TASKS} tasks, 1,000 an entry: {:?}", cpu() - begun);
}

fn lives(criterion: &mut Criterion) {
    weigh();
    pauses();
    let mut group = criterion.benchmark_group("life, submit to stored");
    for count in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(count as u64));
        let mut bench = Bench::new();
        group.bench_function(format!("{count} a time"), |b| {
            b.iter_custom(|iterations| timed(iterations, || bench.live(count)))
        });
    }
    group.finish();
}

fn timers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("timers among a million");
    let mut bench = Bench::new();
    bench.submit(TASKS, later);
    bench.store_all();
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("submit 1,000 waiting, cancel and store them", |b| {
        let mut round = || {
            let entry = bench.creates(1_000, later);
            bench.apply(&entry);
            let mut cancels = EntryBuilder::new(1, START);
            for answer in &bench.changes.answers {
                if let &Applied::Created { task: target, .. } = answer {
                    cancels.push(&Command::Cancel { target, key: None });
                }
            }
            bench.apply(&cancels.finish());
            bench.store_all();
        };
        b.iter_custom(|iterations| timed(iterations, &mut round));
    });
    group.finish();
}

fn encoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let mut bench = Bench::new();
    let entry = bench.creates(1_000, |_| Start::Ready);
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("read 1,000 creates", |b| {
        b.iter_custom(|iterations| {
            timed(iterations, || {
                let read = EntryRef::parse(black_box(&entry)).expect("it is ours");
                black_box(read.commands().filter(Result::is_ok).count());
            })
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = lives, timers, encoding
}
criterion_main!(benches);
