//! gRPC requests from arbitrary bytes: each message of the client API crosses to the domain and
//! back, a spec that is taken keeps to its bounds and is applied as it stands, and a refusal
//! survives the way over a status.

use dtask_core::codec::flat::EntryRef;
use dtask_core::leader::draft::{Drafts, Origin};
use dtask_core::limits;
use dtask_core::spec::{NewTask, Schedule};
use dtask_core::state::{Applied, Changes, Create, IndexKey, LEVEL, Start, State};
use dtask_core::time::Timestamp;
use dtask_proto::v1;
use dtask_runtime::api::{Fault, spec};
use prost::Message;

use crate::meter;

/// A task of a batch takes two bytes on the wire and some five hundred as a message.
const FACTOR: usize = 2_000;

/// The first byte names the message; the rest is the message.
pub(crate) fn run(data: &[u8]) {
    let Some((&kind, body)) = data.split_first() else { return };
    let taken = meter::bounded(data.len(), FACTOR, || read(kind, body));
    taken.iter().for_each(applies);
}

/// Decodes and converts; returns the tasks that were taken.
fn read(kind: u8, body: &[u8]) -> Vec<NewTask> {
    let mut tasks = Vec::new();
    match kind % 13 {
        0 => crosses::<v1::SubmitTaskRequest>(body, |request| {
            tasks.extend(submit(request.task.unwrap_or_default()));
        }),
        1 => crosses::<v1::SubmitTasksRequest>(body, |request| {
            tasks.extend(request.tasks.into_iter().filter_map(submit));
        }),
        2 => crosses::<v1::ListTasksRequest>(body, |request| {
            if let Ok(filter) = spec::task_filter(&request) {
                assert!(filter.statuses.is_sorted_by(|a, b| a < b));
            }
        }),
        3 => crosses::<v1::GetTaskRequest>(body, drop),
        4 => crosses::<v1::CancelTaskRequest>(body, drop),
        5 => crosses::<v1::TriggerTaskRequest>(body, drop),
        6 => crosses::<v1::DeleteTaskRequest>(body, drop),
        7 => crosses::<v1::WaitTaskRequest>(body, drop),
        8 => crosses::<v1::ListRunsRequest>(body, drop),
        9 => crosses::<v1::ListExecutionsRequest>(body, drop),
        10 => crosses::<v1::StreamLogsRequest>(body, drop),
        11 => crosses::<v1::GetExecutionRequest>(body, drop),
        _ => status(body),
    }
    tasks
}

fn crosses<T>(body: &[u8], then: impl FnOnce(T))
where
    T: Message + Default + PartialEq + std::fmt::Debug,
{
    let Ok(message) = T::decode(body) else { return };
    let again = T::decode(message.encode_to_vec().as_slice());
    assert_eq!(again.as_ref(), Ok(&message));
    then(message);
}

/// A spec that is taken, or a refusal that names what is wrong.
pub(crate) fn submit(task: v1::TaskSpec) -> Option<NewTask> {
    match spec::new_task(task, || "fresh".to_owned()) {
        Ok(task) => {
            bounds(&task);
            Some(task)
        }
        Err(fault) => {
            refused(fault);
            None
        }
    }
}

pub(crate) fn refused(fault: Fault) {
    let errors = &fault.0.errors;
    assert!(!fault.0.detail.is_empty());
    assert!(errors.iter().all(|error| !error.field.is_empty() && !error.detail.is_empty()));
    assert!((400..500).contains(&fault.http_status()), "the caller's mistake: {fault:?}");
    assert_eq!(Fault::from_status(&fault.clone().into_status()), Some(fault));
}

fn bounds(task: &NewTask) {
    let text = |text: &str| assert!(text.chars().count() <= limits::NAME_CHARS_MAX, "{text:?}");
    for word in [&task.id, &task.name, &task.profile.kind, &task.profile.queue] {
        text(word);
    }
    assert!(!task.id.is_empty() && !task.profile.kind.is_empty());
    assert!(!task.profile.queue.is_empty());
    assert!(task.payload.len() <= limits::PAYLOAD_BYTES_MAX);
    assert!(task.priority <= limits::PRIORITY_MAX);
    let retry = &task.profile.retry;
    assert!(retry.max_retries <= limits::RETRIES_MAX);
    assert!(retry.backoff_base_ms <= retry.backoff_max_ms);
    assert!(retry.backoff_max_ms <= limits::DURATION_MS_MAX);
    assert!(retry.no_retry_exit.len() <= limits::NO_RETRY_EXIT_MAX);
    assert!(retry.no_retry_exit.is_sorted_by(|a, b| a < b));
    assert!((1..=limits::DURATION_MS_MAX).contains(&task.profile.run_timeout_ms));
}

/// As a leader drafts it: the entry is read back, applied, and accepted; a repeat is a repeat.
pub(crate) fn applies(task: &NewTask) {
    let at = Timestamp::from_seconds(1_000);
    let mut drafts = Drafts::new(LEVEL);
    for _ in 0..2 {
        let start = match &task.schedule {
            Schedule::Now => Start::Ready,
            Schedule::At(at) => Start::At(*at),
            Schedule::Recurring(recurrence) => {
                let next = Some(at.plus_micros(1_000_000));
                Start::Recurring { recurrence: recurrence.clone(), next }
            }
        };
        let create = Create {
            id: &task.id,
            name: &task.name,
            payload: &task.payload,
            profile: 0,
            priority: task.priority,
            retry: false,
            start,
            open: None,
        };
        drafts.create(at, &task.profile, create, Origin::Retire);
    }
    let mut state = State::new(IndexKey::default());
    let mut answers = Vec::new();
    for (index, draft) in (1..).zip(drafts.finish()) {
        let entry = EntryRef::parse(&draft.data).expect("it was just written");
        assert_eq!(entry.profile(0).as_ref(), Ok(&task.profile));
        let mut changes = Changes::default();
        state.apply(index, &draft.data, &mut changes).expect("the level is ours");
        answers.append(&mut changes.answers);
    }
    assert!(matches!(answers[0], Applied::Created { .. }), "{answers:?} for {task:?}");
    assert!(matches!(answers[1], Applied::Repeated { .. }), "{answers:?} for {task:?}");
    state.audit().expect("consistent");
}

/// What another node's status says in its details.
fn status(body: &[u8]) {
    let details = bytes::Bytes::copy_from_slice(body);
    let status = tonic::Status::with_details(tonic::Code::Unknown, "", details);
    if let Some(fault) = Fault::from_status(&status) {
        let again = Fault::from_status(&fault.clone().into_status()).expect("it is ours");
        assert_eq!(again, fault);
        assert!((400..600).contains(&fault.http_status()));
    }
}
