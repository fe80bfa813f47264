//! One seed, on a thread of its own, and its report.

use std::sync::Arc;
use std::time::Duration;

use madsim::runtime::Runtime;

use super::books::Witness;
use super::draw::Draw;
use super::live;
use super::seen::Seen;
use crate::check::Violation;

/// A break of a shell, for the canaries: a build that lies must be caught.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    /// None.
    #[default]
    Honest,
    /// The host says `Persisted` before the sync has happened.
    PersistedBeforeSync,
    /// Sessions lose every report of a worker.
    SessionDropsResults,
    /// The history task says that a transaction is stored before it has begun.
    StoredBeforeCommit,
}

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The violated invariant, if any.
    pub failure: Option<Violation>,
    /// Hash of the whole trace.
    pub hash: u64,
    /// Events in it.
    pub events: u64,
    /// Simulated time, in microseconds.
    pub simulated: u64,
    /// Submits acknowledged.
    pub acknowledged: usize,
    /// What was met.
    pub seen: Seen,
    /// Everything that a reader needs to repeat a failure.
    pub report: String,
}

/// Beyond the liveness phase's own bounds something hangs.
const TIME_MAX: Duration = Duration::from_secs(1_000);

/// Runs a seed. Each has a fresh thread: the seed also decides how its hash maps are keyed.
pub fn run_seed(seed: u64, sabotage: Sabotage, verbose: bool) -> Outcome {
    let draw = Arc::new(Draw::of(seed));
    let witness = Witness::new(draw.clone(), verbose);
    let own = witness.clone();
    let drawn = draw.clone();
    let thread = std::thread::Builder::new().name(format!("seed-{seed}")).spawn(move || {
        let mut config = madsim::Config::default();
        config.net.send_latency =
            Duration::from_micros(200)..Duration::from_micros(200 + drawn.net.latency_max);
        config.net.packet_loss_rate = drawn.net.loss_permille as f64 / 1_000.0;
        let mut runtime = Runtime::with_seed_and_config(seed, config);
        runtime.set_time_limit(TIME_MAX);
        runtime.block_on(live::run(own, drawn, sabotage))
    });
    let ended = thread.map(std::thread::JoinHandle::join);
    let mut books = witness.books();
    let mut simulated = 0;
    match ended {
        Ok(Ok(at)) => simulated = at,
        Ok(Err(panic)) => {
            let text = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            books.judge(Err(Violation::new("PANIC", text.unwrap_or_default())));
        }
        Err(error) => books.judge(Err(Violation::new("PANIC", error.to_string()))),
    }
    let violation = books.failure.as_ref().map_or_else(String::new, ToString::to_string);
    let report = format!(
        "{}VIOLATION {violation}\n  drawn: {draw:?}\n  repeat: DTASK_SEED={seed} cargo sim --test \
         cluster -- --nocapture\n",
        books.trace.report(),
    );
    Outcome {
        seed,
        failure: books.failure.clone(),
        hash: books.trace.hash(),
        events: books.trace.events(),
        simulated,
        acknowledged: books.promises.count(),
        seen: books.seen.clone(),
        report,
    }
}
