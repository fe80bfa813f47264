//! What happened, as one running hash and the last lines; and the probes: events that a set of
//! seeds must meet at least once, or it proves too little.

use std::collections::VecDeque;
use std::fmt::Write as _;

use dtask_core::rng::mix;

/// Lines kept for the report of a failure.
const LINES: usize = 40;

/// One event: fixed columns, formatted only when a seed fails.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// True time, in microseconds.
    pub at: u64,
    /// Whose event it is: nodes from 1, workers from 101, clients from 201, the operator 0.
    pub who: u32,
    /// What happened.
    pub kind: &'static str,
    /// Three numbers that tell it from others of its kind.
    pub numbers: [u64; 3],
}

/// The running hash and the last lines.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    lines: VecDeque<Line>,
    /// Print every line as it happens.
    pub verbose: bool,
}

impl Trace {
    /// Takes an event in.
    pub fn push(&mut self, line: Line) {
        self.events += 1;
        let mut hash = self.hash ^ line.at;
        hash = mix(hash ^ u64::from(line.who) << 48 ^ short_hash(line.kind));
        for number in line.numbers {
            hash = mix(hash ^ number);
        }
        self.hash = hash;
        if self.verbose {
            println!("{}", show(&line));
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Takes a word in that needs no line: a state's digest.
    pub const fn fold(&mut self, word: u64) {
        self.hash = mix(self.hash ^ word);
    }

    /// The hash of everything so far.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events so far.
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The last lines, oldest first.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            let _ = writeln!(text, "{}", show(line));
        }
        text
    }
}

fn show(line: &Line) -> String {
    let who = match line.who {
        0 => "operator".to_owned(),
        who @ 1..=100 => format!("node {who}"),
        who @ 101..=200 => format!("worker {}", who - 100),
        who => format!("client {}", who - 200),
    };
    let [a, b, c] = line.numbers;
    format!("{:>12.6} {who:<9} {:<22} {a} {b} {c}", line.at as f64 / 1e6, line.kind)
}

/// A hash of a label: length and ends suffice to tell ours apart.
const fn short_hash(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut hash = bytes.len() as u64;
    let mut place = 0;
    while place < bytes.len() {
        hash = hash.wrapping_mul(0x100_0000_01b3) ^ bytes[place] as u64;
        place += 1;
    }
    hash
}

macro_rules! probes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// An event that a set of seeds should meet at least once.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Probe { $($(#[$doc])* $name,)* }

        impl Probe {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

probes! {
    /// A submit was answered by another leader than it was sent to, or not at all.
    LeaderLostDuringSubmit = "leader lost during a submit",
    /// A client was told that the outcome is unknown.
    OutcomeUnknown = "outcome unknown",
    /// A repeat of a submit was recognised.
    RepeatAnswered = "repeat answered",
    /// A repeat was recognised by another leader than the one that accepted the first.
    RepeatAfterFailover = "repeat answered after failover",
    /// Another spec under a known id was refused.
    ConflictRefused = "id conflict refused",
    /// A report of a token that is no longer open was refused.
    StaleReportRefused = "stale report refused",
    /// A worker fenced its own handler.
    HandlerKilled = "handler killed",
    /// A node installed a snapshot.
    SnapshotInstalled = "snapshot installed",
    /// A node took a snapshot.
    SnapshotTaken = "snapshot taken",
    /// A snapshot transfer broke off.
    SnapshotBroken = "snapshot transfer broken",
    /// A power loss lost sectors that were not synced.
    SectorsLost = "unsynced sectors lost",
    /// A crash happened between two effects of one turn.
    CrashBetweenEffects = "crash between two effects",
    /// A crash happened while a sync was under way.
    CrashInSync = "crash during a sync",
    /// All nodes lost power at once.
    PowerLoss = "power lost everywhere",
    /// An fsync failed and the node died.
    SyncFailed = "fsync failed",
    /// A disk was full, the node died and came back.
    DiskFull = "disk full",
    /// A deposed leader was still talking in its old term.
    TwoLeaders = "two leaders in different terms",
    /// A message arrived only one way.
    OneWay = "one-way partition",
    /// A cron or interval task fired.
    Fired = "schedule fired",
    /// A fire time was recorded as skipped.
    FireSkipped = "fire time skipped",
    /// A fire time was taken by a leader elected within the last two seconds.
    FiredAfterElection = "fired by a new leader",
    /// A run went to another attempt.
    Retried = "run retried",
    /// A running attempt was cancelled.
    CancelledRunning = "running attempt cancelled",
    /// A waiting task was cancelled.
    CancelledWaiting = "waiting task cancelled",
    /// A cancel met a task that had ended.
    CancelTooLate = "cancel too late",
    /// An attempt timed out.
    TimedOut = "attempt timed out",
    /// History lost the acknowledgement of a COMMIT.
    CommitAckLost = "COMMIT acknowledgement lost",
    /// A history transaction met a cursor that had moved.
    CursorConflict = "history cursor conflict",
    /// A leader that did not know that it was deposed heard of changes it had not applied.
    CursorAhead = "history ahead of a deposed leader",
    /// History was away.
    HistoryDown = "history down",
    /// The database came back older.
    HistoryRestored = "history restored from an older backup",
    /// A gap was noted in the database.
    GapNoted = "history gap noted",
    /// New work was refused because too much waits for history.
    RefusedForHistory = "submit refused while history is away",
    /// Changes left memory unstored.
    ChangesDropped = "changes dropped unstored",
    /// A schedule fired while new work was refused.
    FiredBeyondBound = "fired while history is full",
    /// An attempt ended while new work was refused.
    ClosedBeyondBound = "attempt ended while history is full",
    /// A clock stepped on the leader.
    ClockStepLeader = "leader's wall clock stepped",
    /// A leader whose clock was off handed leadership on.
    HandedOnForClock = "leadership handed on for a wrong clock",
    /// A leader whose disk was slow handed leadership on.
    HandedOnForDisk = "leadership handed on for a slow disk",
    /// A node learnt that its state is not the majority's.
    Diverged = "diverged state told apart",
    /// A node that knew that its state is wrong was asked.
    DivergedAsked = "node with a diverged state asked",
    /// Tasks waited because no majority agreed on a state.
    Split = "nothing dispatched without a majority of states",
    /// The leader was paused and came back.
    LeaderPaused = "leader paused",
    /// A write was forwarded by a follower.
    Forwarded = "write forwarded",
    /// An entry was handed to a follower twice.
    DuplicateAppend = "append delivered twice",
    /// The open was carried by the Create or Fire itself.
    OpenedAtOnce = "opened by its own create",
    /// An attempt was handed back by a draining worker.
    Interrupted = "attempt interrupted",
    /// A worker met a node that does not lead.
    WorkerRedirected = "worker redirected",
    /// New work was refused because too much was on its way.
    FullRefused = "new work refused for load",
    /// A cancel was taken while new work was refused.
    CancelUnderLoad = "cancelled while new work was refused",
    /// A report was agreed while new work was refused.
    ReportUnderLoad = "report agreed while new work was refused",
    /// A fire time was taken while new work was refused.
    FiredUnderLoad = "schedule fired while new work was refused",
    /// A task was deleted.
    Deleted = "task deleted",
    /// A trigger made a run.
    Triggered = "task triggered",
    /// An idle log was marked.
    LogMarked = "idle log marked",
    /// A node found a flipped bit and halted.
    RotFound = "flipped bit found at start",
    /// The watchdog killed what a frozen worker had running.
    WatchdogFired = "watchdog killed a frozen worker's handlers",
    /// A marked re-send was refused, since its id may have been forgotten.
    ForgottenRefused = "re-send of a forgotten id answered unknown",
    /// A worker died and left handlers to its watchdog.
    Orphaned = "handlers outlived their worker",
    /// A task that had ended, and was in memory, ran again.
    RanAgain = "ended task ran again",
    /// A task that history alone had ran again.
    RanAgainFromHistory = "ended task ran again from history",
    /// A row of history was older than the log by the time its command was applied.
    StaleRow = "history row was stale",
    /// A caller's node read history to act on an ended task.
    EdgeReadHistory = "edge read history",
    /// A caller's node could not read history.
    EdgeHistoryAway = "edge found history away",
    /// What history tells of a task from before a gap was not believed.
    RefusedInGap = "act on a task from before a gap refused",
    /// A request id came twice.
    RequestRepeated = "request repeated",
    RequestReused = "request id reused",
    /// A request id came again when its task was not in memory any more.
    RepeatedAfterItsTask = "request repeated after its task left memory",
}

/// How often each probe was met.
#[derive(Clone, Debug)]
pub struct Probes(Vec<u64>);

impl Default for Probes {
    fn default() -> Self {
        Self(vec![0; Probe::ALL.len()])
    }
}

impl Probes {
    /// Counts one.
    pub fn hit(&mut self, probe: Probe) {
        self.0[probe as usize] += 1;
    }

    /// Adds another seed's counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine += theirs;
        }
    }

    /// How many probes were met at least once.
    pub fn met(&self) -> usize {
        self.0.iter().filter(|&&count| count > 0).count()
    }

    /// The names of those that were not met.
    pub fn missed(&self) -> Vec<&'static str> {
        Probe::ALL.iter().filter(|&&p| self.0[p as usize] == 0).map(|p| p.name()).collect()
    }

    /// Each probe's name and count.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Probe::ALL.iter().map(|&probe| (probe.name(), self.0[probe as usize]))
    }
}
