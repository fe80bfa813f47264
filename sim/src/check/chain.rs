//! The one committed log as the World saw it come into being: S5 (the first apply of an index fixes
//! its bytes), S6 (equal index, equal digest) and a replica of the state of its own, fed from index
//! one, that answers the other checkers' questions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use dtask_core::codec::flat::EntryRef;
use dtask_core::id::{Incarnation, NodeId, Token};
use dtask_core::limits;
use dtask_core::log::{LogFact, Persist};
use dtask_core::node::index_key;
use dtask_core::state::view::TaskStatus;
use dtask_core::state::{Applied, Changes, Command, IndexKey, State};
use dtask_core::time::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::gaps::{Departed, trims};
use super::ledger::{Entry, Kind, Ledger, Meaning};
use super::promises::Promises;
use super::{Verdict, Violation, hold};

/// The entries that one node wrote, by its `Persist` effects.
#[derive(Clone, Debug, Default)]
pub struct Said {
    first: u64,
    entries: VecDeque<(u64, bool, Bytes)>,
}

impl Said {
    /// A `Persist` was asked for.
    pub fn take(&mut self, persist: &Persist) {
        if let Some(LogFact::Reset(meta)) = &persist.fact {
            self.entries.clear();
            self.first = meta.index + 1;
        }
        for entry in &persist.entries {
            if self.entries.is_empty() {
                self.first = entry.index;
            }
            self.entries.truncate(entry.index.saturating_sub(self.first) as usize);
            self.entries.push_back((entry.term, entry.conf_change, entry.data.clone()));
        }
    }

    /// A new life: what recovery found.
    pub fn restart(&mut self, entries: &[dtask_core::consensus::LogEntry]) {
        self.first = entries.first().map_or(0, |entry| entry.index);
        self.entries = entries
            .iter()
            .map(|entry| (entry.term, entry.conf_change, entry.data.clone()))
            .collect();
    }

    /// Forgets what nobody will ask for: entries that the chain already holds and this node has
    /// applied.
    pub fn trim(&mut self, through: u64) {
        while self.first <= through && self.entries.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// What the tasks weigh that it has proposed as the leader of its newest term, and not yet
    /// applied.
    pub fn new_work(&self, applied: u64) -> usize {
        let newest = self.entries.back().map_or(0, |(term, ..)| *term);
        let unapplied = (self.first..).zip(&self.entries);
        let own = unapplied.filter(|(index, (term, ..))| *index > applied && *term == newest);
        let commands = own
            .filter_map(|(_, (_, _, data))| EntryRef::parse(data).ok())
            .flat_map(|entry| entry.commands());
        commands
            .map(|command| match command {
                Ok(Command::Create(it)) => it.id.len() + it.name.len() + it.payload.len(),
                _ => 0,
            })
            .sum()
    }

    fn entry(&self, index: u64) -> Option<&(u64, bool, Bytes)> {
        self.entries.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }
}

/// What an applied command meant, with what a probe needs to know.
pub type Meanings = Vec<Meaning>;

/// The committed log.
pub struct Chain {
    /// Term and hash of each entry, from index 1.
    marks: Vec<(u64, u64)>,
    digests: Vec<u128>,
    state: State,
    ended_ids_max: u64,
    formed: bool,
    changes: Changes,
    ledger: Ledger,
    /// Index of the entry that created each serial.
    created: BTreeMap<u64, u64>,
    departed: Departed,
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("len", &self.marks.len()).finish_non_exhaustive()
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self::new()
    }
}

impl Chain {
    /// An empty log.
    pub fn new() -> Self {
        Self::keeping_ended_ids(limits::DEDUP_IDS_MAX as u64)
    }

    /// An empty log of a cluster that keeps so many ended ids (P8.2).
    pub fn keeping_ended_ids(ended_ids_max: u64) -> Self {
        Self {
            ended_ids_max,
            marks: Vec::new(),
            digests: Vec::new(),
            state: State::new(IndexKey::default()).keeping_ended_ids(ended_ids_max),
            formed: false,
            changes: Changes::default(),
            ledger: Ledger::default(),
            created: BTreeMap::new(),
            departed: Departed::default(),
        }
    }

    /// The cluster is formed of these: that fixes the key of every state.
    pub fn formed(&mut self, voters: &[(NodeId, Incarnation)]) {
        if !std::mem::replace(&mut self.formed, true) {
            self.state = State::new(index_key(voters)).keeping_ended_ids(self.ended_ids_max);
        }
    }

    /// Node `who` has applied everything through `through`, after `from`. Returns what new
    /// commands meant.
    pub fn applied(
        &mut self,
        who: usize,
        said: &Said,
        from: u64,
        through: u64,
        promises: &Promises,
    ) -> Result<Meanings, Violation> {
        let mut meanings = Vec::new();
        for index in from + 1..=through {
            let Some((term, conf_change, data)) = said.entry(index) else {
                // It came by a snapshot, whose digest is compared instead.
                hold!(
                    "S5",
                    index <= self.len(),
                    "node {} applied entry {index}, which it never wrote",
                    who + 1
                );
                continue;
            };
            let mark = (*term, xxh3_64(data));
            if index <= self.len() {
                self.s5_an_index_keeps_its_bytes(who, index, mark)?;
            } else {
                hold!("S5", index == self.len() + 1, "entry {index} follows {}", self.len());
                self.marks.push(mark);
                let data = if *conf_change { Bytes::new() } else { data.clone() };
                self.apply(index, &data, promises, &mut meanings)?;
            }
        }
        Ok(meanings)
    }

    /// S5: the first apply of an index fixes its bytes for ever.
    fn s5_an_index_keeps_its_bytes(&self, who: usize, index: u64, mark: (u64, u64)) -> Verdict {
        let known = self.marks[index as usize - 1];
        hold!(
            "S5",
            known == mark,
            "node {} applied another entry {index}: term {} instead of {}",
            who + 1,
            mark.0,
            known.0
        );
        Ok(())
    }

    fn apply(
        &mut self,
        index: u64,
        data: &Bytes,
        promises: &Promises,
        meanings: &mut Meanings,
    ) -> Verdict {
        self.changes = Changes::default();
        let stored = self.state.stored();
        let trims = trims(data);
        self.departed.before(&self.state, &trims);
        let result = self.state.apply(index, data, &mut self.changes);
        self.departed.after(stored, &self.state, &trims);
        hold!("S24", result.is_ok(), "entry {index} is refused: {:?}", result.err());
        self.digests.push(self.state.digest());
        if data.is_empty() {
            return Ok(());
        }
        let Ok(bytes) = EntryRef::parse(data) else { return Ok(()) };
        let at = bytes.at();
        self.ledger.s16_replicated_time_never_falls(index, at)?;
        let entry = Entry { index, at, bytes: &bytes };
        let answers = std::mem::take(&mut self.changes.answers);
        for (command, answer) in bytes.commands().zip(answers) {
            let Ok(command) = command else { break };
            if let (Command::Create(create), Applied::Created { task, .. }) = (&command, answer) {
                promises.s8_created_was_invoked(create.id, create.payload)?;
                self.created.insert(task.serial.0, index);
            }
            let meaning = self.ledger.take(entry, &command, answer)?;
            if meaning != Meaning::Nothing {
                meanings.push(meaning);
            }
        }
        Ok(())
    }

    /// S6: a node at `index` has the digest that the log's own replay has there.
    pub fn s6_equal_index_equal_digest(&self, who: usize, index: u64, digest: u128) -> Verdict {
        let Some(place) = (index as usize).checked_sub(1) else { return Ok(()) };
        let Some(&known) = self.digests.get(place) else { return Ok(()) };
        hold!(
            "S6",
            known == digest,
            "node {} has digest {digest:032x} at entry {index}; replay has {known:032x}",
            who + 1
        );
        Ok(())
    }

    /// The last index.
    pub fn len(&self) -> u64 {
        self.marks.len() as u64
    }

    /// Tells whether nothing was committed.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// The term of an entry.
    pub fn term(&self, index: u64) -> Option<u64> {
        self.marks.get((index as usize).checked_sub(1)?).map(|mark| mark.0)
    }

    /// The entry that created a task.
    pub fn created_at(&self, serial: u64) -> Option<u64> {
        self.created.get(&serial).copied()
    }

    /// The ledger.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What has left the replica's memory.
    pub const fn departed(&self) -> &Departed {
        &self.departed
    }

    /// The replica.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The newest change number.
    pub fn changes(&self) -> u64 {
        self.state.changes()
    }

    /// A run that should have ended: due for long at the replicated time of the healing, and still
    /// open.
    pub fn overdue(&self, healed: Timestamp) -> Option<String> {
        self.ledger.records().find_map(|(serial, record)| {
            let runs = matches!(record.kind, Kind::OneShot | Kind::Run { .. });
            let due = runs && record.done.is_none() && record.not_before <= healed;
            due.then(|| {
                let reference = self.state.find(&record.id);
                let view = reference.and_then(|reference| self.state.task_view(reference));
                let status = view.map(|view| (view.status, view.wait));
                format!(
                    "{} (serial {serial}) has not ended: {record:?}; state says {status:?}, \
                     replicated time {}",
                    record.id,
                    self.ledger.at()
                )
            })
        })
    }

    /// S10: accepted and not terminal means that a timer, a queue or a lease refers to it.
    pub fn s10_everything_unfinished_is_awaited(&self) -> Verdict {
        let state = &self.state;
        let open: BTreeSet<Token> = state.open_attempts().map(|attempt| attempt.token).collect();
        for (serial, record) in self.ledger.records() {
            match record.open {
                Some(token) => hold!(
                    "S10",
                    open.contains(&token),
                    "{} (serial {serial}) runs token {token}, which the state does not hold",
                    record.id
                ),
                None if record.done.is_none() => {
                    let view = state.find(&record.id).and_then(|it| state.task_view(it));
                    let Some(view) = view else {
                        let detail = format!("unfinished {} is not in the state", record.id);
                        return Err(Violation::new("S10", detail));
                    };
                    let waits = view.status == TaskStatus::Waiting;
                    hold!(
                        "S10",
                        !waits || view.next_run_at.is_some() || view.wait.is_some(),
                        "{} waits for nothing: {:?}",
                        record.id,
                        view.status
                    );
                }
                None => {}
            }
        }
        Ok(())
    }
}
