//! The entry's bytes (P5.1, P5.2): versioned, little-endian, read by a borrowing cursor.
//!
//! ```text
//! version u8 = 1 | level u32 | at i64 µs
//! profiles u16, each: len u32, bytes        (each distinct profile of the entry once)
//! commands u32, each: len u32, tag u8, fields
//! ```
//! The length before each command lets a reader go on after one that it cannot decode: that one is
//! refused, never the entry (P2.5). Nothing here looks at what the fields mean.

pub mod command;
pub mod cursor;
pub mod spec;
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use bytes::Bytes;

pub use cursor::{Cursor, DecodeError, Put};

use crate::spec::Profile;
use crate::state::Command;
use crate::time::Timestamp;

const VERSION: u8 = 1;
/// Version, level, at, and the two counts.
const FRAME_BYTES: usize = 1 + 4 + 8 + 2 + 4;

/// Collects the commands of one entry.
#[derive(Clone, Debug)]
pub struct EntryBuilder {
    level: u32,
    at: Timestamp,
    numbers: BTreeMap<Vec<u8>, u16>,
    profiles: Vec<u8>,
    scratch: Vec<u8>,
    commands: Vec<u8>,
    count: u32,
}

impl EntryBuilder {
    /// An empty entry that needs feature level `level` and is stamped `at`.
    pub const fn new(level: u32, at: Timestamp) -> Self {
        Self {
            level,
            at,
            numbers: BTreeMap::new(),
            profiles: Vec::new(),
            scratch: Vec::new(),
            commands: Vec::new(),
            count: 0,
        }
    }

    /// The number of `profile` in this entry's table; equal profiles share one. An entry has room
    /// for 65,536 (its commands are bounded far below that); beyond, the last number is returned.
    pub fn intern(&mut self, profile: &Profile) -> u16 {
        self.scratch.clear();
        spec::put_profile(&mut self.scratch, profile);
        if let Some(&number) = self.numbers.get(&self.scratch) {
            return number;
        }
        let number = u16::try_from(self.numbers.len()).unwrap_or(u16::MAX);
        self.profiles.put_bytes(&self.scratch);
        self.numbers.insert(self.scratch.clone(), number);
        number
    }

    /// Appends a command and returns its ordinal: its answer's place in `Changes::answers`.
    pub fn push(&mut self, command: &Command<'_>) -> u32 {
        let length_at = self.commands.len();
        self.commands.put_u32(0);
        command::put_command(&mut self.commands, command);
        let len = u32::try_from(self.commands.len() - length_at - 4).unwrap_or(u32::MAX);
        self.commands[length_at..length_at + 4].copy_from_slice(&len.to_le_bytes());
        self.count += 1;
        self.count - 1
    }

    /// How many commands it holds.
    pub const fn commands(&self) -> usize {
        self.count as usize
    }

    /// How long the finished entry will be.
    pub fn bytes(&self) -> usize {
        FRAME_BYTES + self.profiles.len() + self.commands.len()
    }

    /// The entry's bytes.
    pub fn finish(self) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes());
        out.put_u8(VERSION);
        out.put_u32(self.level);
        out.put_time(self.at);
        out.put_u16(u16::try_from(self.numbers.len()).unwrap_or(u16::MAX));
        out.raw(&self.profiles);
        out.put_u32(self.count);
        out.raw(&self.commands);
        Bytes::from(out)
    }
}

/// An entry, read in place.
#[derive(Clone, Debug)]
pub struct EntryRef<'a> {
    level: u32,
    at: Timestamp,
    profiles: Vec<&'a [u8]>,
    commands: Cursor<'a>,
    count: u32,
}

impl<'a> EntryRef<'a> {
    /// Reads the frame: everything but the insides of profiles and commands.
    ///
    /// # Errors
    /// When the frame is malformed; then nothing of the entry can be trusted.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut from = Cursor::new(bytes);
        let version = from.u8()?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let level = from.u32()?;
        let at = from.time()?;
        let len = usize::from(from.u16()?);
        let mut profiles = Vec::with_capacity(len.min(from.remaining() / 4));
        for _ in 0..len {
            profiles.push(from.bytes()?);
        }
        let count = from.u32()?;
        let commands = from;
        for _ in 0..count {
            from.bytes()?;
        }
        from.end()?;
        Ok(Self { level, at, profiles, commands, count })
    }

    /// The feature level that it needs.
    pub const fn level(&self) -> u32 {
        self.level
    }

    /// Its stamp.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// How many commands it holds.
    pub const fn len(&self) -> usize {
        self.count as usize
    }

    /// Tells whether it holds no command.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of its profiles (canonical: equal profiles have equal bytes).
    pub fn profile_bytes(&self) -> &[&'a [u8]] {
        &self.profiles
    }

    /// A profile of its table.
    ///
    /// # Errors
    /// When there is no such number or its bytes are malformed.
    pub fn profile(&self, number: u16) -> Result<Profile, DecodeError> {
        let bytes = self.profiles.get(usize::from(number));
        spec::read_profile(bytes.ok_or(DecodeError::Range("a profile's number"))?)
    }

    /// Its commands in order; one that cannot be decoded does not end the iteration.
    pub fn commands(&self) -> impl Iterator<Item = Result<Command<'a>, DecodeError>> + use<'a> {
        let mut from = self.commands;
        (0..self.count).map(move |_| from.bytes().and_then(command::read_command))
    }
}
