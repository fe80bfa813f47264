//! What users ask: parsed once at the edge, never validated again.
//!
//! Values of these types are valid by construction. `api` conversions build them with the
//! functions here, which name the offending field and its remedy.

pub mod cron;
pub mod draft;
pub mod error;
pub mod outcome;
pub mod schedule;
pub mod task;
pub mod text;
pub mod zone;

pub use draft::Draft;
pub use error::{FieldError, InvalidReason};
pub use outcome::{AttemptOutcome, StopWhy};
pub use task::{
    Backoff, DstFold, DstGap, Misfire, NewTask, Overlap, Profile, Recurrence, Retry, Rule, Schedule,
};
