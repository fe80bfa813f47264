//! By which change number each row left the state's memory, and what was lost on the way to history:
//! what a gap of the database may excuse (S18), and what it may not.

use std::collections::BTreeMap;

use dtask_core::codec::flat::EntryRef;
use dtask_core::id::Token;
use dtask_core::state::history::{HistoryBatch, HistoryGap, RunRow};
use dtask_core::state::{Command, State};
use dtask_core::time::Timestamp;

use super::{Verdict, hold};

/// Rows of one question to the state.
const ROWS: usize = 1_000;

/// What left memory, by the log's own replay.
#[derive(Debug, Default)]
pub struct Departed {
    attempts: BTreeMap<Token, u64>,
    tasks: BTreeMap<u64, u64>,
    /// By the serial of the task and the fire time.
    runs: BTreeMap<(u64, Timestamp), u64>,
    /// Changes that left memory unstored (P9.5), first and last, in order.
    dropped: Vec<(u64, u64)>,
}

impl Departed {
    /// An entry is about to be applied to `state`: the rows that it may let go are noted.
    pub(super) fn before(&mut self, state: &State, trims: &[Trim]) {
        if let Some(through) = trims.iter().map(|trim| trim.through).max() {
            self.note(state, through);
        }
    }

    /// It was applied to a state that had let go of everything through `before`.
    pub(super) fn after(&mut self, before: u64, state: &State, trims: &[Trim]) {
        if trims.iter().any(|trim| trim.unstored) && state.stored() > before {
            self.dropped.push((before + 1, state.stored()));
        }
    }

    fn note(&mut self, state: &State, through: u64) {
        let mut after = state.stored();
        while after < through
            && let Some(batch) = state.history_batch(after, ROWS)
        {
            for row in batch.attempts.iter().filter(|row| row.number <= through) {
                self.attempts.insert(row.view.token, row.number);
            }
            for row in batch.tasks.iter().filter(|row| row.number <= through) {
                self.tasks.insert(row.view.serial, row.number);
            }
            for row in batch.runs.iter().filter(|row| row.number <= through) {
                self.runs.insert((row.incarnation, row.view.scheduled_for), row.number);
            }
            after = batch.through;
        }
    }
}

/// A command that lets changes go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trim {
    through: u64,
    /// History does not have them (P9.5).
    unstored: bool,
}

/// The commands of an entry that let changes go.
pub(super) fn trims(entry: &[u8]) -> Vec<Trim> {
    let Ok(entry) = EntryRef::parse(entry) else { return Vec::new() };
    let trim = |command| match command {
        Command::HistoryStored { through, .. } => Some(Trim { through, unstored: false }),
        Command::HistoryDropped { through } => Some(Trim { through, unstored: true }),
        Command::Create(_)
        | Command::Open(_)
        | Command::Close(_)
        | Command::Fire(_)
        | Command::Cancel { .. }
        | Command::Claim { .. }
        | Command::Trigger { .. }
        | Command::Again(_)
        | Command::Delete { .. }
        | Command::TimeOut { .. }
        | Command::RegisterInstance { .. }
        | Command::RetireInstance { .. }
        | Command::SetAddresses { .. } => None,
    };
    entry.commands().flatten().filter_map(trim).collect()
}

/// The gaps that a database names, against what left memory.
#[derive(Debug)]
pub struct Excuses<'a> {
    gaps: Vec<(u64, u64)>,
    departed: &'a Departed,
    state: &'a State,
    /// Rows that the state holds for history still: no gap excuses them.
    held: Vec<HistoryBatch>,
}

impl<'a> Excuses<'a> {
    /// `gaps` are the first and last changes of each.
    pub fn new(
        gaps: impl Iterator<Item = (u64, u64)>,
        departed: &'a Departed,
        state: &'a State,
    ) -> Self {
        let gaps: Vec<_> = gaps.collect();
        let mut held = Vec::new();
        let mut after = state.stored();
        while !gaps.is_empty()
            && let Some(batch) = state.history_batch(after, ROWS)
        {
            after = batch.through;
            held.push(batch);
        }
        Self { gaps, departed, state, held }
    }

    fn held(&self) -> impl Iterator<Item = &HistoryBatch> {
        self.held.iter()
    }

    fn covers(&self, number: Option<&u64>) -> bool {
        number.is_some_and(|n| self.gaps.iter().any(|(first, last)| first <= n && n <= last))
    }

    /// The attempt's last change lies in a gap.
    pub fn attempt(&self, token: Token) -> bool {
        self.covers(self.departed.attempts.get(&token))
            && !self.held().flat_map(|held| &held.attempts).any(|row| row.view.token == token)
    }

    /// The last change of a task's run at a fire time lies in a gap.
    pub fn run(&self, serial: u64, fire_time: Timestamp) -> bool {
        let is_it = |row: &RunRow| (row.incarnation, row.view.scheduled_for) == (serial, fire_time);
        self.covers(self.departed.runs.get(&(serial, fire_time)))
            && !self.held().flat_map(|held| &held.runs).any(is_it)
    }

    /// The task's last change lies in a gap, and it has left memory: what is there was written again
    /// before the gap was named (decision 3).
    pub fn task(&self, id: &str, serial: u64) -> bool {
        self.covers(self.departed.tasks.get(&serial))
            && self.state.find(id).is_none_or(|found| found.serial.0 != serial)
            && !self.held().flat_map(|held| &held.tasks).any(|row| row.view.serial == serial)
    }
}

/// Changes that the database has lost since it held them: it was restored from an older backup.
#[derive(Clone, Debug, Default)]
pub struct Undone(Vec<(u64, u64)>);

impl Undone {
    /// The database held changes through `was` and is back at `is`.
    pub fn restored(&mut self, was: u64, is: u64) {
        if is < was {
            self.0.push((is + 1, was));
        }
    }
}

/// S18: a gap names exactly what is lost: it begins behind the cursor, moves it to its end, and all
/// of it left memory unstored or was undone by a restore.
pub fn s18_a_gap_is_what_was_lost(
    departed: &Departed,
    undone: &Undone,
    state: &State,
    batch: &HistoryBatch,
) -> Verdict {
    let Some(HistoryGap { from, to, dropped: _ }) = batch.gap else { return Ok(()) };
    hold!(
        "S18",
        from == batch.after + 1 && to == batch.through,
        "a gap {from}..={to} in a batch that moves the cursor from {} to {}",
        batch.after,
        batch.through
    );
    s18_a_named_gap_was_lost(departed, undone, state, (from, to))
}

/// S18: all of a gap, first and last change, left memory unstored or was undone by a restore.
pub fn s18_a_named_gap_was_lost(
    departed: &Departed,
    undone: &Undone,
    state: &State,
    (from, to): (u64, u64),
) -> Verdict {
    hold!("S18", from <= to, "gap {from}..={to} is empty");
    hold!("S18", to <= state.stored(), "gap {from}..={to} names changes still in memory");
    let mut lost: Vec<_> = departed.dropped.iter().chain(&undone.0).copied().collect();
    lost.sort_unstable();
    let mut next = from;
    for (first, last) in lost {
        if first <= next && last >= next {
            next = last + 1;
        }
    }
    hold!("S18", next > to, "gap {from}..={to}: change {next} was not lost");
    Ok(())
}
