//! Entries being written: commands gather here until an entry is full or the turn ends (P1.3),
//! each with its origin, so that the answer of `apply` finds whoever waits for it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::codec::flat::EntryBuilder;
use crate::id::{InstanceId, SessionId, Ticket, Token};
use crate::limits;
use crate::spec::Profile;
use crate::state::view::{TaskStatus, TaskView};
use crate::state::{Again, Command, Create, Rerun};
use crate::time::Timestamp;

/// Why a command was proposed, and who waits for its answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A task of a submit.
    Submit {
        /// The task's id.
        id: Box<str>,
        /// Which submit.
        call: u64,
        /// Which of its tasks.
        place: u32,
        /// The status that it has if it does not open.
        status: TaskStatus,
        /// Its first fire time or due time.
        due: Option<Timestamp>,
        /// The slot promised to it (P2.3).
        open: Option<InstanceId>,
    },
    /// A caller's cancel, trigger or retry.
    Change {
        /// Who waits.
        ticket: Ticket,
        /// The task's id, to answer with the task.
        id: Box<str>,
        /// The task as history told of it, if it was not in memory.
        was: Option<Box<TaskView>>,
        /// The slot promised to a triggered run.
        open: Option<InstanceId>,
        /// A run may become ready by it with no slot promised.
        loose: bool,
    },
    /// A caller's delete.
    Delete {
        /// Who waits.
        ticket: Ticket,
        /// The task as it was.
        was: Box<TaskView>,
    },
    /// A request id put on record.
    Claim {
        /// Who waits.
        ticket: Ticket,
    },
    /// A worker's report.
    Report {
        /// Over which session it came.
        session: SessionId,
        /// Which attempt.
        token: Token,
    },
    /// A ready run meets a free slot. Planning.
    Open {
        /// The slot promised to it.
        instance: InstanceId,
    },
    /// A fire time. Planning.
    Fire {
        /// The slot promised to its run.
        open: Option<InstanceId>,
    },
    /// A lease ended. Planning.
    Lost {
        /// Whose.
        token: Token,
    },
    /// A run timeout's backstop. Planning.
    TimeOut,
    /// A worker's instance.
    Register {
        /// Which.
        instance: InstanceId,
    },
    /// An instance that is gone.
    Retire,
    /// History's cursor.
    Stored,
    /// Changes leave memory unstored (P9.5).
    Dropped,
    /// Where this node is reached.
    Addresses,
}

impl Origin {
    /// Whether it belongs to the one planning entry (P2.3).
    pub const fn is_planning(&self) -> bool {
        match self {
            Self::Open { .. } | Self::Fire { .. } | Self::Lost { .. } | Self::TimeOut => true,
            Self::Submit { .. }
            | Self::Change { .. }
            | Self::Delete { .. }
            | Self::Claim { .. }
            | Self::Report { .. }
            | Self::Register { .. }
            | Self::Retire
            | Self::Stored
            | Self::Dropped
            | Self::Addresses => false,
        }
    }

    /// The slot promised to the command.
    pub const fn promised(&self) -> Option<InstanceId> {
        match self {
            Self::Submit { open, .. } | Self::Fire { open } | Self::Change { open, .. } => *open,
            Self::Open { instance } => Some(*instance),
            Self::Delete { .. }
            | Self::Claim { .. }
            | Self::Report { .. }
            | Self::Lost { .. }
            | Self::TimeOut
            | Self::Register { .. }
            | Self::Retire
            | Self::Stored
            | Self::Dropped
            | Self::Addresses => None,
        }
    }

    /// Whether a run may become ready by it with no slot promised: while one is in flight, no
    /// `open` is promised to a later one, or first in, first out would invert (P2.2).
    pub const fn is_loose(&self) -> bool {
        match self {
            Self::Submit { status, open, .. } => {
                matches!(status, TaskStatus::Ready) && open.is_none()
            }
            Self::Fire { open } => open.is_none(),
            Self::Change { loose, .. } => *loose,
            Self::Delete { .. }
            | Self::Claim { .. }
            | Self::Report { .. }
            | Self::Open { .. }
            | Self::Lost { .. }
            | Self::TimeOut
            | Self::Register { .. }
            | Self::Retire
            | Self::Stored
            | Self::Dropped
            | Self::Addresses => false,
        }
    }
}

/// An entry that is complete: ready to be proposed.
#[derive(Debug)]
pub struct Draft {
    /// Its bytes.
    pub data: Bytes,
    /// One origin a command, in order.
    pub origins: Vec<Origin>,
    /// Its stamp.
    pub at: Timestamp,
}

/// The entries of one turn.
#[derive(Debug)]
pub struct Drafts {
    level: u32,
    open: Option<(EntryBuilder, Vec<Origin>, Timestamp)>,
    closed: Vec<Draft>,
}

impl Drafts {
    /// No entries yet; they will need `level` to be applied (P5.1).
    pub const fn new(level: u32) -> Self {
        Self { level, open: None, closed: Vec::new() }
    }

    /// Adds a command that names no profile.
    pub fn push(&mut self, at: Timestamp, command: &Command<'_>, origin: Origin) {
        let (builder, origins) = self.room(at, weight(command));
        builder.push(command);
        origins.push(origin);
    }

    /// Adds the creation of a task; `create.profile` is set here, to the entry's own number of
    /// `profile` (P5.2).
    pub fn create(
        &mut self,
        at: Timestamp,
        profile: &Profile,
        mut create: Create<'_>,
        origin: Origin,
    ) {
        let (builder, origins) = self.room(at, create_weight(&create));
        create.profile = builder.intern(profile);
        builder.push(&Command::Create(create));
        origins.push(origin);
    }

    /// Adds a command about a task that history told of; `again.past.profile` is set here (P5.2).
    pub fn again(
        &mut self,
        at: Timestamp,
        profile: &Profile,
        mut again: Again<'_>,
        origin: Origin,
    ) {
        let (builder, origins) = self.room(at, again_weight(&again));
        again.past.profile = builder.intern(profile);
        builder.push(&Command::Again(again));
        origins.push(origin);
    }

    /// Gives the newest origin, a submit's, its task's id: it was borrowed by the command.
    pub fn name_last(&mut self, name: Box<str>) {
        let newest = self.open.as_mut().and_then(|(_, origins, _)| origins.last_mut());
        if let Some(Origin::Submit { id, .. }) = newest {
            *id = name;
        }
    }

    /// Makes sure that an entry with a stamp of at least `at` goes out, if only an empty one, so
    /// that `apply` wakes what is due (P2.1).
    pub fn touch(&mut self, at: Timestamp) {
        self.cut_before(at);
        self.room(at, 0);
    }

    /// Closes the entry that was begun with an older stamp than `at`.
    pub fn cut_before(&mut self, at: Timestamp) {
        if self.open.as_ref().is_some_and(|(_, _, begun)| *begun < at) {
            self.close();
        }
    }

    /// Takes the entries of the turn, in order.
    pub fn finish(&mut self) -> Vec<Draft> {
        self.close();
        core::mem::take(&mut self.closed)
    }

    fn room(&mut self, at: Timestamp, weight: usize) -> (&mut EntryBuilder, &mut Vec<Origin>) {
        let full = self.open.as_ref().is_some_and(|(builder, _, _)| {
            builder.commands() >= limits::ENTRY_COMMANDS_MAX
                || (builder.commands() > 0 && builder.bytes() + weight > limits::ENTRY_BYTES_MAX)
        });
        if full {
            self.close();
        }
        let level = self.level;
        let (builder, origins, _) =
            self.open.get_or_insert_with(|| (EntryBuilder::new(level, at), Vec::new(), at));
        (builder, origins)
    }

    fn close(&mut self) {
        if let Some((builder, origins, at)) = self.open.take() {
            self.closed.push(Draft { data: builder.finish(), origins, at });
        }
    }
}

/// What a command weighs in its entry, from above and near enough: the bytes it carries, and room
/// for its numbers.
fn weight(command: &Command<'_>) -> usize {
    const NUMBERS: usize = 64;
    match command {
        Command::Create(create) => create_weight(create),
        Command::Again(again) => again_weight(again),
        Command::Close(close) => {
            NUMBERS + close.output.len() + close.error.len() + close.tail.len()
        }
        Command::RegisterInstance { name, .. } => NUMBERS + name.len(),
        Command::SetAddresses { grpc, http, .. } => NUMBERS + grpc.len() + http.len(),
        Command::Fire(fire) => NUMBERS + fire.skip.map_or(0, str::len),
        Command::Cancel { key, .. } | Command::Trigger { rerun: Rerun { key, .. }, .. } => {
            NUMBERS + key.map_or(0, |key| key.request.len())
        }
        Command::Claim { request, .. } => NUMBERS + request.len(),
        Command::Open(_)
        | Command::TimeOut { .. }
        | Command::Delete { .. }
        | Command::RetireInstance { .. }
        | Command::HistoryDropped { .. }
        | Command::HistoryStored { .. } => NUMBERS,
    }
}

fn again_weight(again: &Again<'_>) -> usize {
    let reason = again.past.last_run.as_ref().map_or(0, |run| run.reason.len());
    REST + again.id.len() + again.past.name.len() + again.past.payload.len() + reason
}

/// A profile of its own and a recurrence, when they are there.
const REST: usize = 512;

fn create_weight(create: &Create<'_>) -> usize {
    REST + create.id.len() + create.name.len() + create.payload.len()
}
