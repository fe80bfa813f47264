//! Page tokens: where a list stopped, bound to the filters that it was asked with.

use dtask_core::id::{RunNumber, Token};
use dtask_core::time::Timestamp;
use prost::Message;

use crate::api::Fault;

/// Rows in a page when the caller names no number.
const PAGE_DEFAULT: u32 = 50;
/// Rows in a page, at most.
const PAGE_MAX: u32 = 1_000;

/// Where a list stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// After this row of `tasks`.
    Task(Timestamp, Box<str>),
    /// After this row of `runs`: incarnation and run.
    Run(u64, RunNumber),
    /// After this row of `execution_logs`.
    Execution(Token),
    /// A walk over live tasks.
    Walk(u64),
}

/// How many rows a page holds.
pub(super) fn size(asked: Option<u32>) -> Result<u32, Fault> {
    match asked {
        None | Some(0) => Ok(PAGE_DEFAULT),
        Some(size) if size <= PAGE_MAX => Ok(size),
        Some(size) => {
            let detail = format!("{size} rows are too many");
            Err(Fault::invalid("page_size", detail, format!("at most {PAGE_MAX}")))
        }
    }
}

/// A fingerprint of what was asked, its page aside.
pub(super) fn fingerprint(question: &impl Message) -> u32 {
    crc32c::crc32c(&question.encode_to_vec())
}

impl Place {
    /// As the caller gets it.
    pub(super) fn token(&self, fingerprint: u32) -> String {
        match self {
            Self::Task(at, id) => format!("{fingerprint:08x}.t.{}.{id}", at.as_micros()),
            Self::Run(incarnation, run) => format!("{fingerprint:08x}.r.{incarnation}.{run}"),
            Self::Execution(token) => format!("{fingerprint:08x}.e.{token}"),
            Self::Walk(cursor) => format!("{fingerprint:08x}.w.{cursor}"),
        }
    }

    /// Reads what [`Place::token`] wrote; an empty token is the beginning.
    ///
    /// # Errors
    /// A token of another question, or none of ours.
    pub(super) fn read(token: &str, fingerprint: u32) -> Result<Option<Self>, Fault> {
        if token.is_empty() {
            return Ok(None);
        }
        let foreign = || {
            Fault::invalid(
                "page_token",
                "it does not belong to this list and these filters",
                "start again without it",
            )
        };
        let rest = token.strip_prefix(&format!("{fingerprint:08x}.")).ok_or_else(foreign)?;
        Self::parse(rest).map(Some).ok_or_else(foreign)
    }

    fn parse(rest: &str) -> Option<Self> {
        let (kind, rest) = rest.split_once('.')?;
        match kind {
            "t" => {
                let (at, id) = rest.split_once('.')?;
                Some(Self::Task(Timestamp::from_micros(at.parse().ok()?), id.into()))
            }
            "r" => {
                let (incarnation, run) = rest.split_once('.')?;
                Some(Self::Run(incarnation.parse().ok()?, RunNumber(run.parse().ok()?)))
            }
            "e" => Some(Self::Execution(Token(rest.parse().ok()?))),
            "w" => Some(Self::Walk(rest.parse().ok()?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_leads_back_to_its_place() {
        for place in [
            Place::Task(Timestamp::from_micros(-5), "a.b".into()),
            Place::Run(7, RunNumber(2)),
            Place::Execution(Token(9)),
            Place::Walk(1 << 40),
        ] {
            assert_eq!(Place::read(&place.token(17), 17), Ok(Some(place)));
        }
    }

    #[test]
    fn token_of_other_filters_is_refused() {
        let token = Place::Walk(3).token(17);
        for (token, fingerprint) in [(token.as_str(), 18), ("nonsense", 17), ("00000011.x.1", 17)] {
            let fault = Place::read(token, fingerprint).expect_err(token);
            assert_eq!(fault.0.errors[0].field, "page_token");
        }
    }
}
