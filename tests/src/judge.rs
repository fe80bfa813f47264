//! The verdict on a case: the nodes' logs are replayed by the World's own checkers, and what
//! callers were told, what handlers did and what the database shows is held against them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, anyhow, ensure};
use bytes::Bytes;
use dtask_core::id::{GroupId, NodeId, RunNumber, Token};
use dtask_core::log::{File, Owner, Recovered, recover};
use dtask_core::node::Accepted;
use dtask_core::spec::AttemptOutcome;
use dtask_core::state::view::TaskStatus;
use dtask_core::time::Timestamp;
use dtask_core::worker::Assignment;
use dtask_sim::check::chain::{Chain, Said};
use dtask_sim::check::effects::Outside;
use dtask_sim::check::gaps::{Excuses, Undone, s18_a_named_gap_was_lost};
use dtask_sim::check::history;
use dtask_sim::check::ledger::Kind;
use dtask_sim::check::promises::Promises;
use serde_json::Value;

use crate::callers::Entries;
use crate::effects::Effects;
use crate::rows::Rows;

/// Everything that was seen of a case.
#[derive(Debug)]
pub struct Evidence<'a> {
    /// What callers asked for and were told.
    pub entries: &'a Entries,
    /// What handlers did.
    pub effects: &'a Effects,
    /// What the database shows.
    pub rows: &'a Rows,
    /// Changes that the database held and has lost: it was restored from an older dump.
    pub undone: &'a Undone,
    /// What each node said of the cluster at the end.
    pub views: &'a [Value],
    /// What each node's disk holds.
    pub disks: Vec<Recovered>,
}

impl Evidence<'_> {
    /// Shows that the verdict on this evidence could have been another: what is missing, doubled,
    /// out of order or different in a copy of it is noticed.
    ///
    /// # Errors
    /// Which forgery passed.
    pub fn is_noticed_when_forged(&self) -> Result<()> {
        let disks = || self.disks.clone();
        let mut rows = self.rows.clone();
        // The newest lies behind every gap.
        rows.attempts.sort_by_key(|(token, _)| *token);
        let last = rows.attempts.pop().context("an execution")?;
        forged("a row that is missing", Evidence { rows: &rows, disks: disks(), ..*self })?;
        rows.attempts.extend([last, last]);
        forged("a row that is there twice", Evidence { rows: &rows, disks: disks(), ..*self })?;

        self.a_forged_gap_is_noticed()?;

        let mut entries = self.entries.clone();
        let mut told = entries.told.last().context("an acknowledgement")?.clone();
        told.accepted.id = "nobody-knows".to_owned();
        entries.told.push(told);
        let evidence = Evidence { entries: &entries, disks: disks(), ..*self };
        forged("an acknowledged task that is lost", evidence)?;

        let mut effects = self.effects.clone();
        let twice = effects.values_mut().next().context("an effect")?;
        twice.extend(twice.clone());
        let evidence = Evidence { effects: &effects, disks: disks(), ..*self };
        forged("a handler that ran twice", evidence)?;
        effects.clear();
        let evidence = Evidence { effects: &effects, disks: disks(), ..*self };
        forged("a success without an effect", evidence)?;

        let mut other = disks();
        let entries = &mut other.last_mut().context("a disk")?.entries;
        let half = entries.len() / 2;
        entries[half].term += 1;
        forged("a log that differs from the others", Evidence { disks: other, ..*self })
    }

    /// Where history has gaps: one that is longer or not named, or a task that has not ended and
    /// was not written again.
    fn a_forged_gap_is_noticed(&self) -> Result<()> {
        let Some(last) = self.rows.gaps.len().checked_sub(1) else { return Ok(()) };
        let disks = || self.disks.clone();
        let mut rows = self.rows.clone();
        rows.gaps[last].1 += 1;
        forged("a gap that is too long", Evidence { rows: &rows, disks: disks(), ..*self })?;
        rows.gaps.pop();
        forged("a gap that is not named", Evidence { rows: &rows, disks: disks(), ..*self })?;
        let mut rows = self.rows.clone();
        let lasting = self.entries.lasting.last().context("a task that has not ended")?;
        rows.tasks.remove(lasting).context("its row")?;
        let evidence = Evidence { rows: &rows, disks: disks(), ..*self };
        forged("a waiting task without a row", evidence)
    }

    /// Judges all of it.
    ///
    /// # Errors
    /// The first broken invariant, with its id.
    pub fn judge(&self) -> Result<()> {
        ensure!(self.entries.wrong.is_empty(), "S7: {}", self.entries.wrong.join("; "));
        let mut promises = Promises::default();
        for (id, payload) in &self.entries.asked {
            promises.asked_for(id, payload);
        }
        let chain = self.replay(&promises)?;
        self.what_callers_were_told(&chain, &mut promises)?;
        self.what_handlers_did(&chain)?;
        self.what_the_database_shows(&chain)
    }

    /// S5, S6, S8, S9, S11–S16: every node's log is the same log, its replay keeps the rules, and
    /// each node's digest is the replay's.
    fn replay(&self, promises: &Promises) -> Result<Chain> {
        let mut chain = Chain::new();
        let formed = self.disks.iter().find_map(|disk| disk.formed.as_ref());
        chain.formed(&formed.context("no node belongs to a cluster")?.1);
        // A log that begins at index 1 goes first: the others are compared with it.
        let mut order: Vec<usize> = (0..self.disks.len()).collect();
        order.sort_by_key(|&who| self.disks[who].meta.as_ref().map_or(0, |meta| meta.index));
        for who in order {
            let (disk, view) = (&self.disks[who], &self.views[who]);
            let applied = view["applied_index"].as_u64().context("an applied index")?;
            let from = disk.meta.as_ref().map_or(0, |meta| meta.index);
            let mut said = Said::default();
            said.restart(&disk.entries);
            chain.applied(who, &said, from, applied, promises).map_err(|v| anyhow!("{v}"))?;
        }
        for (who, view) in self.views.iter().enumerate() {
            let index = view["digest"]["index"].as_u64().context("a digest's index")?;
            let digest = view["digest"]["value"].as_str().context("a digest")?;
            let digest = u128::from_str_radix(digest, 16)?;
            chain
                .s6_equal_index_equal_digest(who, index, digest)
                .map_err(|violation| anyhow!("{violation}"))?;
        }
        Ok(chain)
    }

    /// S7 and S9: what was acknowledged is in the log, and has ended.
    fn what_callers_were_told(&self, chain: &Chain, promises: &mut Promises) -> Result<()> {
        let ledger = chain.ledger();
        for (at, told) in self.entries.told.iter().enumerate() {
            let id = &told.accepted.id;
            let serial = ledger.find(id).map_or(u64::MAX, |(serial, _)| serial);
            let accepted = Accepted {
                new: told.accepted.created,
                serial,
                status: TaskStatus::Waiting,
                created_at: Timestamp::from_micros(told.accepted.created_at),
                next_run_at: None,
            };
            promises
                .acknowledged((0, at as u64), id, &accepted, ledger)
                .map_err(|violation| anyhow!("{violation}"))?;
            let ended = ledger.record(serial).is_some_and(|record| record.done.is_some());
            let lasts = self.entries.lasting.contains(id);
            ensure!(ended != lasts, "S7: {id} was acknowledged; ended: {ended}, lasting: {lasts}");
        }
        let excuses = self.excuses(chain);
        let excused = |id: &str| ledger.find(id).is_some_and(|(it, _)| excuses.task(id, it));
        promises
            .s7_nothing_acknowledged_is_lost(
                ledger,
                |id| chain.state().find(id).is_some(),
                |id| self.rows.tasks.contains_key(id) || excused(id),
            )
            .map_err(|violation| anyhow!("{violation}"))
    }

    /// S8, S11 and S17 outside: no handler without an attempt, never two of one run, none after an
    /// acknowledged cancel; and what is said to have succeeded has had its effect.
    fn what_handlers_did(&self, chain: &Chain) -> Result<()> {
        let ledger = chain.ledger();
        let mut outside = Outside::default();
        let mut ended = BTreeSet::new();
        for (_, happening) in self.happenings() {
            match happening {
                Happening::Ended { task, run, token } => outside.ended(&(task.into(), run), token),
                Happening::Cancelled { task } => {
                    if let Some((serial, _)) = ledger.find(task) {
                        outside.cancel_acknowledged(serial);
                    }
                }
                Happening::Started { task, run, token, to_its_end } => {
                    let attempt = ledger.attempt(token);
                    let attempt = attempt.with_context(|| {
                        format!("S8: {task} starts with token {token}, which was never opened")
                    })?;
                    let of = ledger.record(attempt.serial).map(|record| &*record.id);
                    ensure!(of == Some(task), "S8: token {token} of {of:?} starts {task}");
                    outside
                        .started(ledger, attempt.instance, &assignment(task, run, token), |_| false)
                        .map_err(|violation| anyhow!("{violation}"))?;
                    ensure!(
                        outside.effect(&(task.into(), run), token),
                        "S11: token {token} of {task} starts after a newer one"
                    );
                    if to_its_end {
                        ended.insert(token);
                    }
                }
            }
        }
        for (token, attempt) in ledger.attempts() {
            let well = attempt.outcome == Some(AttemptOutcome::Succeeded);
            ensure!(!well || ended.contains(&token), "S8: token {token} succeeded without effect");
        }
        Ok(())
    }

    /// What happened outside, in the order of CLOCK_MONOTONIC; at equal times an end comes first.
    fn happenings(&self) -> Vec<(u64, Happening<'_>)> {
        let mut all = Vec::new();
        for (task, effect) in
            self.effects.iter().flat_map(|(t, all)| all.iter().map(move |e| (t, e)))
        {
            let (token, run) = (Token(effect.token), effect.run);
            let to_its_end = effect.end.is_some();
            all.push((effect.start, Happening::Started { task, run, token, to_its_end }));
            // Killed before its first sign of life: it ended after it began.
            let seen = effect.seen.max(effect.start + 1);
            all.push((seen, Happening::Ended { task, run, token }));
        }
        let cancelled = self.entries.cancelled.iter();
        all.extend(cancelled.map(|(task, at)| (*at, Happening::Cancelled { task })));
        all.sort_by_key(|(at, happening)| (*at, happening.rank()));
        all
    }

    /// What the gaps that the database names excuse.
    fn excuses<'c>(&self, chain: &'c Chain) -> Excuses<'c> {
        Excuses::new(self.rows.gaps.iter().copied(), chain.departed(), chain.state())
    }

    /// S18: one closed row for each attempt of the log, one row for each task, one for each fire
    /// time that was taken; and each gap is of what was lost, which alone may be missing.
    fn what_the_database_shows(&self, chain: &Chain) -> Result<()> {
        let (ledger, rows) = (chain.ledger(), self.rows);
        let changes = chain.changes();
        ensure!(rows.through == changes, "L4: history holds {} of {changes}", rows.through);
        for gap in &rows.gaps {
            s18_a_named_gap_was_lost(chain.departed(), self.undone, chain.state(), *gap)
                .map_err(|violation| anyhow!("{violation}"))?;
        }
        let excuses = self.excuses(chain);
        let attempts = rows.attempts.iter().copied();
        history::s18_each_attempt_is_one_row(ledger, attempts, |token| excuses.attempt(token))
            .map_err(|violation| anyhow!("{violation}"))?;
        let line = |id: &str, serial| {
            rows.tasks.get(id).filter(|(known, _)| *known == serial).map(|(_, line)| *line)
        };
        history::s18_each_task_is_one_row(ledger, line, |id, serial| excuses.task(id, serial))
            .map_err(|violation| anyhow!("{violation}"))?;
        let mut runs: BTreeMap<(&str, i64), u32> = BTreeMap::new();
        for (task, fire_time) in &rows.runs {
            *runs.entry((task, *fire_time)).or_default() += 1;
        }
        for (serial, record) in ledger.records() {
            let Kind::Recurring { taken, .. } = &record.kind else { continue };
            for fire_time in taken {
                let count = runs.get(&(&*record.id, fire_time.as_micros())).copied();
                let id = &record.id;
                let lost = count.is_none() && excuses.run(serial, *fire_time);
                ensure!(
                    count == Some(1) || lost,
                    "S15: {id} at {fire_time} has {count:?} rows, not one"
                );
            }
        }
        Ok(())
    }
}

fn forged(what: &str, evidence: Evidence<'_>) -> Result<()> {
    ensure!(evidence.judge().is_err(), "the checkers do not notice {what}");
    Ok(())
}

#[derive(Clone, Copy, Debug)]
enum Happening<'a> {
    Ended { task: &'a str, run: u32, token: Token },
    Cancelled { task: &'a str },
    Started { task: &'a str, run: u32, token: Token, to_its_end: bool },
}

impl Happening<'_> {
    const fn rank(&self) -> u8 {
        match self {
            Happening::Ended { .. } => 0,
            Happening::Started { .. } => 1,
            Happening::Cancelled { .. } => 2,
        }
    }
}

fn assignment(task: &str, run: u32, token: Token) -> Assignment {
    Assignment {
        token,
        task_id: task.into(),
        task_name: task.into(),
        run: RunNumber(run),
        attempt: 1,
        kind: "effect".into(),
        payload: Bytes::new(),
        scheduled_for: Timestamp::default(),
        run_timeout_ms: 0,
    }
}

/// What the data directory of a stopped node holds, read as the node itself would.
pub fn disk(folder: &Path, node: usize) -> Result<Recovered> {
    let (mut segments, mut others) = (BTreeMap::new(), Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some(file) = entry.file_name().to_str().and_then(File::parse) else { continue };
        match file {
            File::Segment(number) => {
                segments.insert(number, std::fs::read(entry.path())?);
            }
            File::SegmentTemp(_) | File::Snapshot(_) | File::SnapshotTemp(_) => others.push(file),
        }
    }
    others.sort_unstable();
    let owner = Owner { group: GroupId(1), node: NodeId(node as u64), voters: None };
    let found = recover(&owner, &segments, &others)?;
    Ok(found.with_context(|| format!("node {node} has no log"))?.recovered)
}
