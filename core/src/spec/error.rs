//! What is wrong with a piece of a spec: the field, the fault with its number, the remedy.

use alloc::string::String;
use core::fmt;

/// One fault of a submitted spec. The caller's move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// interface.md's word for the kind of fault.
    pub reason: InvalidReason,
    /// Which field, as interface.md names it (`cron_expr`, `priority`, …); inside a cron
    /// expression, the part (`cron_expr: hour`).
    pub field: String,
    /// What is wrong, lower case, with the offending value and the bound.
    pub detail: String,
    /// What to write instead.
    pub hint: String,
}

/// The reasons of interface.md that a spec alone can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InvalidReason {
    /// A cron expression does not parse, or names no moment.
    CronInvalid,
    /// No such time zone.
    TimezoneUnknown,
    /// A payload above its bound.
    PayloadTooLarge,
    /// Any other field.
    FieldInvalid,
}

impl InvalidReason {
    /// As it stands in replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CronInvalid => "CRON_INVALID",
            Self::TimezoneUnknown => "TIMEZONE_UNKNOWN",
            Self::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Self::FieldInvalid => "FIELD_INVALID",
        }
    }
}

impl FieldError {
    /// A fault that has no reason of its own.
    pub fn invalid(
        field: impl Into<String>,
        detail: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            reason: InvalidReason::FieldInvalid,
            field: field.into(),
            detail: detail.into(),
            hint: hint.into(),
        }
    }

    /// The same fault under another reason.
    #[must_use]
    pub fn because(mut self, reason: InvalidReason) -> Self {
        self.reason = reason;
        self
    }
}

impl fmt::Display for FieldError {
    /// One line: field, detail, hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)?;
        if !self.hint.is_empty() {
            write!(f, " ({})", self.hint)?;
        }
        Ok(())
    }
}

impl core::error::Error for FieldError {}
