//! The matrix's load: callers at every node that submit one by one, in batches, for later, on a
//! calendar, that cancel and repeat themselves, and a book of what they asked for and were told.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use dtask_core::rng::Rng;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_proto::v1::{
    Backoff, CancelTaskRequest, Overlap, SubmitTaskRequest, SubmitTaskResponse, SubmitTasksRequest,
    TaskSpec, TaskStatus,
};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::load::clients;

/// How long a caller repeats one call before it is wrong that nobody answers.
const PATIENCE: Duration = Duration::from_secs(90);

/// An acknowledgement.
#[derive(Clone, Debug)]
pub struct Told {
    /// What was answered.
    pub accepted: SubmitTaskResponse,
    /// From the first try to the answer.
    pub took: Duration,
}

/// What callers asked for and were told.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Ids and payloads, before the first try.
    pub asked: Vec<(String, Vec<u8>)>,
    /// Acknowledged submits, repeats too, in the order of the answers.
    pub told: Vec<Told>,
    /// Tasks that were said to be cancelled, and when (monotonic nanoseconds).
    pub cancelled: Vec<(String, u64)>,
    /// Tasks that are due long after the end.
    pub lasting: BTreeSet<String>,
    /// Calls, repeats too.
    pub calls: u64,
    /// Calls that were refused or not answered, and were made again.
    pub repeated: u64,
    /// What no call may be answered.
    pub wrong: Vec<String>,
}

/// A glance at the book.
#[derive(Clone, Copy, Debug)]
pub struct SoFar {
    /// Acknowledged submits.
    pub acknowledged: usize,
    /// Calls that were refused or not answered, and were made again.
    pub refused: u64,
}

type Book = Arc<Mutex<Entries>>;

/// Callers at work.
#[derive(Debug)]
pub struct Load {
    servers: Vec<String>,
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<()>>,
    book: Book,
}

impl Load {
    /// Begins; `servers` are the gRPC URLs of all nodes.
    pub fn start(runtime: &Handle, servers: &[String]) -> Result<Self> {
        let mut load = Self {
            servers: servers.to_vec(),
            stop: Arc::default(),
            callers: Vec::new(),
            book: Arc::default(),
        };
        let callers = [
            runtime.spawn(load.caller(runtime, 0)?.singles("a")),
            runtime.spawn(load.caller(runtime, 1)?.singles("b")),
            runtime.spawn(load.caller(runtime, 2)?.singles("c")),
            runtime.spawn(load.caller(runtime, 0)?.batches()),
            runtime.spawn(load.caller(runtime, 1)?.delayed()),
            runtime.spawn(load.caller(runtime, 2)?.cancels()),
            runtime.spawn(load.caller(runtime, 0)?.calendar()),
        ];
        load.callers.extend(callers);
        Ok(load)
    }

    /// Submits `name-0`, `name-1`, … beside the rest, all with this payload.
    pub fn more(&mut self, runtime: &Handle, name: &str, count: u32, payload: &str) -> Result<()> {
        let (name, payload) = (name.to_owned(), payload.to_owned());
        let caller = self.caller(runtime, 1)?;
        self.callers.push(runtime.spawn(caller.some(name, count, payload)));
        Ok(())
    }

    /// Submits `name-0`, `name-1`, … that are due in an hour, and waits until they are accepted.
    pub fn lasting(&mut self, runtime: &Handle, name: &str, count: u32) -> Result<()> {
        let at = Some(wall_us() + 3_600_000_000);
        let specs = (0..count).map(|n| TaskSpec { at, ..spec(format!("{name}-{n}"), "3") });
        let specs: Vec<_> = specs.collect();
        let mut caller = self.caller(runtime, 0)?;
        caller.book().lasting.extend(specs.iter().map(|spec| spec.id.clone()));
        runtime.block_on(caller.submit_all(specs));
        Ok(())
    }

    /// Submits `queue-0`, `queue-1`, … to a queue of that name, each with a payload of so many bytes
    /// that no database makes smaller, and waits until they are accepted.
    pub fn heavy(&mut self, runtime: &Handle, queue: &str, count: u32, bytes: usize) -> Result<()> {
        let mut caller = self.caller(runtime, 0)?;
        runtime.block_on(async {
            for number in 0..count {
                let payload = format!("3 0 {}", noise(number.into(), bytes));
                let spec = spec(format!("{queue}-{number}"), &payload);
                caller.submit(&TaskSpec { queue: queue.to_owned(), ..spec }).await;
            }
        });
        Ok(())
    }

    /// Cancels one of the lasting tasks: it lasts no longer.
    pub fn cancel(&mut self, runtime: &Handle, id: &str) -> Result<()> {
        let mut caller = self.caller(runtime, 0)?;
        caller.book().lasting.remove(id);
        runtime.block_on(caller.cancel(id));
        Ok(())
    }

    /// What is in the book so far.
    pub fn so_far(&self) -> SoFar {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        SoFar { acknowledged: book.told.len(), refused: book.repeated }
    }

    fn caller(&self, runtime: &Handle, first: usize) -> Result<Caller> {
        let _entered = runtime.enter();
        let clients = clients(&self.servers)?;
        Ok(Caller { clients, next: first, book: self.book.clone(), stop: self.stop.clone() })
    }

    /// Lets each caller end what it has begun, and yields the book.
    pub fn finish(self, runtime: &Handle) -> Result<Entries> {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            runtime.block_on(caller).context("a caller panicked")?;
        }
        let book = Arc::into_inner(self.book).context("a caller still holds the book")?;
        Ok(book.into_inner().unwrap_or_else(PoisonError::into_inner))
    }
}

struct Caller {
    clients: Vec<TaskServiceClient<Channel>>,
    next: usize,
    book: Book,
    stop: Arc<AtomicBool>,
}

impl Caller {
    /// Many short tasks, some of them longer, some that fail once.
    async fn singles(mut self, name: &str) {
        let mut number = 0_u32;
        while !self.stopped() {
            number += 1;
            let payload = match number {
                n if n % 11 == 0 => "3 1",
                n if n % 7 == 0 => "150",
                _ => "3",
            };
            let spec = spec(format!("{name}-{number}"), payload);
            self.submit(&spec).await;
            if number.is_multiple_of(10) {
                // S9: the same again, at another node.
                self.submit(&spec).await;
            }
            pause(20).await;
        }
    }

    async fn batches(mut self) {
        let mut number = 0;
        while !self.stopped() {
            let specs = (0..20).map(|n| spec(format!("batch-{number}-{n}"), "3")).collect();
            number += 1;
            self.submit_all(specs).await;
            pause(700).await;
        }
    }

    async fn some(mut self, name: String, count: u32, payload: String) {
        for number in 0..count {
            if self.hopeless() {
                break;
            }
            self.submit(&spec(format!("{name}-{number}"), &payload)).await;
        }
    }

    /// `--in`.
    async fn delayed(mut self) {
        let mut number = 0;
        while !self.stopped() {
            let at = Some(wall_us() + 1_000_000 + i64::from(number % 4) * 500_000);
            self.submit(&TaskSpec { at, ..spec(format!("later-{number}"), "3") }).await;
            number += 1;
            pause(300).await;
        }
    }

    /// What waits is cancelled before its time; what runs is cancelled at work.
    async fn cancels(mut self) {
        let mut number = 0;
        while !self.stopped() {
            let far = TaskSpec {
                at: Some(wall_us() + 3_600_000_000),
                ..spec(format!("never-{number}"), "3")
            };
            self.submit(&far).await;
            let long = spec(format!("long-{number}"), "3000");
            self.submit(&long).await;
            number += 1;
            pause(400).await;
            self.cancel(&far.id).await;
            self.cancel(&long.id).await;
        }
    }

    /// A cron expression and a period, cancelled at the end.
    async fn calendar(mut self) {
        let overlap = Overlap::Allow.into();
        let cron =
            TaskSpec { cron_expr: "* * * * * *".into(), overlap, ..spec("cron".to_owned(), "3") };
        let every = TaskSpec { every: Some(1_000), overlap, ..spec("every".to_owned(), "3") };
        self.submit(&cron).await;
        self.submit(&every).await;
        while !self.stopped() {
            pause(50).await;
        }
        self.cancel(&cron.id).await;
        self.cancel(&every.id).await;
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.hopeless()
    }

    /// A call got a wrong answer or none: the case has failed, and nobody waits any longer.
    fn hopeless(&self) -> bool {
        !self.book().wrong.is_empty()
    }

    fn book(&self) -> MutexGuard<'_, Entries> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn client(&mut self) -> TaskServiceClient<Channel> {
        self.next += 1;
        self.book().calls += 1;
        self.clients[self.next % self.clients.len()].clone()
    }

    async fn submit(&mut self, spec: &TaskSpec) {
        self.book().asked.push((spec.id.clone(), spec.payload.to_vec()));
        let begin = Instant::now();
        let mut retry = false;
        loop {
            let request =
                SubmitTaskRequest { task: Some(spec.clone()), retry, ..Default::default() };
            retry = true;
            match self.client().submit_task(request).await {
                Ok(answer) => {
                    let told = Told { accepted: answer.into_inner(), took: begin.elapsed() };
                    return self.book().told.push(told);
                }
                Err(status) => {
                    if !self.goes_on(&spec.id, begin, &status).await {
                        return;
                    }
                }
            }
        }
    }

    async fn submit_all(&mut self, mut specs: Vec<TaskSpec>) {
        let asked = specs.iter().map(|spec| (spec.id.clone(), spec.payload.to_vec()));
        self.book().asked.extend(asked);
        let begin = Instant::now();
        let mut retry = false;
        while !specs.is_empty() {
            let request = SubmitTasksRequest { tasks: specs.clone(), retry, ..Default::default() };
            retry = true;
            let refusal = match self.client().submit_tasks(request).await {
                Ok(answer) => {
                    let results = answer.into_inner().results;
                    let mut refusal = None;
                    let mut left = Vec::new();
                    for (spec, result) in specs.drain(..).zip(results) {
                        if let Some(accepted) = result.accepted {
                            let told = Told { accepted, took: begin.elapsed() };
                            self.book().told.push(told);
                        } else {
                            let reason = result.error.unwrap_or_default().reason;
                            let code = match reason.as_str() {
                                "ID_CONFLICT" => Code::AlreadyExists,
                                _ => Code::Unavailable,
                            };
                            refusal = Some(Status::new(code, reason));
                            left.push(spec);
                        }
                    }
                    specs = left;
                    refusal
                }
                Err(status) => Some(status),
            };
            let Some(status) = refusal else { return };
            let id = specs.first().map(|spec| spec.id.clone()).unwrap_or_default();
            if !self.goes_on(&id, begin, &status).await {
                return;
            }
        }
    }

    async fn cancel(&mut self, id: &str) {
        let begin = Instant::now();
        loop {
            let request = CancelTaskRequest { id: id.to_owned(), ..Default::default() };
            match self.client().cancel_task(request).await {
                Ok(answer) => {
                    let task = answer.into_inner();
                    let ended = task.status == i32::from(TaskStatus::Cancelled);
                    if ended && task.every.is_none() && task.cron_expr.is_none() {
                        self.book().cancelled.push((id.to_owned(), monotonic_ns()));
                    }
                    return;
                }
                // It had ended before.
                Err(status) if status.code() == Code::FailedPrecondition => return,
                Err(status) => {
                    if !self.goes_on(id, begin, &status).await {
                        return;
                    }
                }
            }
        }
    }

    /// Whether a call is made again; writes down what it may not be answered.
    async fn goes_on(&mut self, id: &str, begin: Instant, status: &Status) -> bool {
        let never = matches!(
            status.code(),
            Code::AlreadyExists | Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition
        );
        if self.hopeless() {
            return false;
        }
        let late = begin.elapsed() > PATIENCE;
        if never || late {
            let after = begin.elapsed();
            self.book().wrong.push(format!("{id} is answered after {after:?}: {status}"));
            return false;
        }
        self.book().repeated += 1;
        pause(20).await;
        true
    }
}

fn spec(id: String, payload: &str) -> TaskSpec {
    TaskSpec {
        id,
        r#type: "effect".into(),
        payload: payload.as_bytes().to_vec().into(),
        backoff: Backoff::Fixed.into(),
        backoff_base: Some(200),
        ..TaskSpec::default()
    }
}

/// Words without a meaning or a pattern.
fn noise(seed: u64, bytes: usize) -> String {
    let mut rng = Rng::new(seed);
    let mut text: String = (0..=bytes / 17).map(|_| format!("{:016x} ", rng.next_u64())).collect();
    text.truncate(bytes);
    text
}

async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

fn wall_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// CLOCK_MONOTONIC, as handlers write it down.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1_000_000_000 + now.tv_nsec).unwrap_or(0)
}
