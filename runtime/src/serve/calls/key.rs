//! A request's id: HTTP's `Idempotency-Key`, gRPC's `request_id` (P8.3).

use dtask_core::limits;
use dtask_core::node::Rejection;
use dtask_core::spec::draft::check_id;
use dtask_proto::v1;
use prost::Message as _;
use xxhash_rust::xxh3::xxh3_64;

use super::fresh_id;
use crate::api::Fault;
use crate::api::spec::wrong_fields;

/// The longest id, in characters.
pub(crate) const ID_MAX: usize = limits::NAME_CHARS_MAX;
/// What the place in a batch adds to an id: a colon and the digits of the largest place.
const PLACE_CHARS_MAX: usize = 6;
/// The longest id of a batch, in characters: the ids of its tasks are made of it.
pub(crate) const REQUEST_ID_OF_BATCH_MAX: usize = ID_MAX - PLACE_CHARS_MAX;

/// A request's id. It stands in for the ids that its tasks do not name: a repeat names the same
/// tasks.
pub(super) struct Key(pub(super) Option<String>);

impl Key {
    /// Written like a task's id, and at most `max` characters; an empty one is none.
    pub(super) fn check(request_id: &str, max: usize) -> Result<Self, Fault> {
        if request_id.is_empty() {
            return Ok(Self(None));
        }
        check_id("request_id", request_id).map_err(|wrong| wrong_fields(&[wrong]))?;
        if request_id.len() > max {
            let detail = format!("it has {} characters, at most {max} fit", request_id.len());
            return Err(Fault::invalid("request_id", detail, "a UUID will do"));
        }
        Ok(Self(Some(request_id.to_owned())))
    }

    /// A task without an id gets one here, before it is forwarded, so that a repeat of the
    /// forwarded message cannot make a second task. Time-ordered, which keeps the database's index
    /// cheap, unless the caller named the request.
    pub(super) fn name(&self, place: Option<usize>, draft: &mut v1::TaskSpec) {
        if draft.id.is_empty() {
            draft.id = self.id(place).unwrap_or_else(fresh_id);
        }
    }

    /// Hash of what the request says, with the ids of its tasks; 0 when nobody will ask.
    pub(super) fn content(&self, of: impl FnOnce() -> v1::SubmitTasksRequest) -> u64 {
        if self.0.is_some() { xxh3_64(&of().encode_to_vec()) } else { 0 }
    }

    /// The same key with another task is no conflict of ids: the caller never chose one.
    pub(super) fn refused(&self, place: Option<usize>, id: &str, why: Rejection) -> Fault {
        let own = self.id(place).is_some_and(|own| own == id);
        if own && matches!(why, Rejection::IdConflict { .. }) {
            return Rejection::RequestReused.into();
        }
        why.into()
    }

    fn id(&self, place: Option<usize>) -> Option<String> {
        let key = self.0.as_ref()?;
        Some(place.map_or_else(|| key.clone(), |place| format!("{key}:{place}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_tasks_that_have_no_name_and_no_others() {
        let key = Key::check("night-7", ID_MAX).expect("it can be an id");
        let mut tasks = [v1::TaskSpec::default(), v1::TaskSpec::default()];
        tasks[1].id = "own".to_owned();
        for (place, task) in tasks.iter_mut().enumerate() {
            key.name(Some(place), task);
        }
        assert_eq!(tasks.map(|task| task.id), ["night-7:0", "own"]);
    }

    #[test]
    fn a_key_that_leaves_no_room_for_the_place_is_refused() {
        let key = "k".repeat(REQUEST_ID_OF_BATCH_MAX + 1);
        assert!(Key::check(&key, ID_MAX).is_ok());
        let fault = Key::check(&key, REQUEST_ID_OF_BATCH_MAX).err().expect("it is too long");
        assert_eq!(fault.0.errors[0].field, "request_id");
    }
}
