//! A prepared statement that takes rows one by one, and is told of a value only when it differs from
//! the row before: most columns say the same in most rows, and SQLite copies each text that it is
//! given.

use dtask_core::time::Timestamp;
use rusqlite::{CachedStatement, Connection, ToSql};

/// Longer values are bound each time: to compare them costs as much.
const REMEMBERED_MAX: usize = 64;

/// A statement that takes its values in the order of the columns.
pub(super) struct Row<'db> {
    statement: CachedStatement<'db>,
    /// What each parameter holds.
    held: Vec<Held>,
    /// Values of this row so far.
    values: usize,
    failed: Option<rusqlite::Error>,
}

/// A parameter's value, which stays until it is bound again.
enum Held {
    /// Not known.
    Unknown,
    Null,
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
}

impl<'db> Row<'db> {
    pub(super) fn new(db: &'db Connection, sql: &str) -> rusqlite::Result<Self> {
        Ok(Self { statement: db.prepare_cached(sql)?, held: Vec::new(), values: 0, failed: None })
    }

    /// The next parameter.
    fn next(&mut self) -> &mut Held {
        self.values += 1;
        if self.held.len() < self.values {
            self.held.push(Held::Unknown);
        }
        &mut self.held[self.values - 1]
    }

    fn bind(&mut self, value: impl ToSql) -> &mut Self {
        if let Err(error) = self.statement.raw_bind_parameter(self.values, value) {
            self.failed = Some(error);
        }
        self
    }

    /// A text that each row has for itself.
    pub(super) fn own_text(&mut self, value: &str) -> &mut Self {
        *self.next() = Held::Unknown;
        self.bind(value)
    }

    /// A text that rows share.
    pub(super) fn text(&mut self, value: &str) -> &mut Self {
        match self.next() {
            Held::Text(held) if held == value => return self,
            Held::Text(held) if value.len() <= REMEMBERED_MAX => {
                held.clear();
                held.push_str(value);
            }
            held if value.len() <= REMEMBERED_MAX => *held = Held::Text(value.into()),
            held => *held = Held::Unknown,
        }
        self.bind(value)
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        match self.next() {
            Held::Bytes(held) if held == value => return self,
            Held::Bytes(held) if value.len() <= REMEMBERED_MAX => {
                held.clear();
                held.extend_from_slice(value);
            }
            held if value.len() <= REMEMBERED_MAX => *held = Held::Bytes(value.into()),
            held => *held = Held::Unknown,
        }
        self.bind(value)
    }

    pub(super) fn signed(&mut self, value: i64) -> &mut Self {
        match self.next() {
            Held::Number(held) if *held == value => return self,
            held => *held = Held::Number(value),
        }
        self.bind(value)
    }

    /// Numbers stay below 2^63 (tokens below 2^53, P7.1); one beyond is stored as the largest.
    pub(super) fn number(&mut self, value: impl Into<u64>) -> &mut Self {
        self.signed(i64::try_from(value.into()).unwrap_or(i64::MAX))
    }

    pub(super) fn maybe(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(value) => self.signed(value),
            None => self.nulls(1),
        }
    }

    pub(super) fn time(&mut self, at: Timestamp) -> &mut Self {
        self.signed(at.as_micros())
    }

    pub(super) fn maybe_time(&mut self, at: Option<Timestamp>) -> &mut Self {
        self.maybe(at.map(Timestamp::as_micros))
    }

    pub(super) fn nulls(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            match self.next() {
                Held::Null => {}
                held => {
                    *held = Held::Null;
                    self.bind(None::<i64>);
                }
            }
        }
        self
    }

    /// Writes the row and makes ready for the next one.
    pub(super) fn store(&mut self) -> rusqlite::Result<()> {
        self.values = 0;
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.statement.raw_execute().map(drop)
    }
}
