//! A submitted [`v1::TaskSpec`] becomes a [`NewTask`]; what is wrong with it becomes a [`Fault`]
//! that names every wrong field.

use dtask_core::node::TaskFilter;
use dtask_core::spec::{Backoff, Draft, DstFold, DstGap, FieldError, Misfire, NewTask, Overlap};
use dtask_core::state::view::TaskStatus;
use dtask_core::time::Timestamp;
use dtask_proto::v1;
use tonic::Code;

use super::Fault;

/// Checks a spec. `fresh_id` makes the id of a task that comes without one (P8.3).
///
/// # Errors
/// Every wrong field with its remedy; the reason is the first one's.
pub fn new_task(spec: v1::TaskSpec, fresh_id: impl FnOnce() -> String) -> Result<NewTask, Fault> {
    let made;
    let id = if spec.id.is_empty() {
        made = fresh_id();
        made.as_str()
    } else {
        spec.id.as_str()
    };
    let mut unknown = Vec::new();
    let draft = Draft {
        id,
        name: &spec.name,
        kind: &spec.r#type,
        queue: &spec.queue,
        payload: spec.payload,
        priority: spec.priority,
        at: spec.at.map(Timestamp::from_micros),
        every_ms: spec.every,
        starts_at: spec.starts_at.map(Timestamp::from_micros),
        cron: given(&spec.cron_expr),
        timezone: given(&spec.timezone),
        dst_gap: choice("dst_gap", spec.dst_gap, gap, &mut unknown),
        dst_fold: choice("dst_fold", spec.dst_fold, fold, &mut unknown),
        misfire: choice("misfire", spec.misfire, misfire, &mut unknown),
        catch_up_ms: spec.catch_up,
        overlap: choice("overlap", spec.overlap, overlap, &mut unknown),
        max_retries: spec.max_retries,
        backoff: choice("backoff", spec.backoff, backoff, &mut unknown),
        backoff_base_ms: spec.backoff_base,
        backoff_max_ms: spec.backoff_max,
        no_retry_exit: &spec.no_retry_exit,
        run_timeout_ms: spec.timeout,
    };
    match draft.check() {
        Ok(task) if unknown.is_empty() => Ok(task),
        Ok(_) => Err(wrong_fields(&unknown)),
        Err(mut faults) => {
            faults.append(&mut unknown);
            Err(wrong_fields(&faults))
        }
    }
}

/// What is wrong with a spec, as an answer.
pub fn wrong_fields(faults: &[FieldError]) -> Fault {
    let reason = faults.first().map_or("FIELD_INVALID", |fault| fault.reason.as_str());
    let lines: Vec<_> = faults.iter().map(|f| format!("{}: {}", f.field, f.detail)).collect();
    let mut answer = Fault::new(Code::InvalidArgument, reason, lines.join("; "));
    answer.0.errors = faults
        .iter()
        .map(|fault| v1::FieldError {
            field: fault.field.clone(),
            detail: fault.detail.clone(),
            hint: fault.hint.clone(),
        })
        .collect();
    answer
}

/// Which live tasks a list asks for.
///
/// # Errors
/// A status of a newer schema.
pub fn task_filter(request: &v1::ListTasksRequest) -> Result<TaskFilter, Fault> {
    let mut statuses = Vec::new();
    for number in &request.status {
        match v1::TaskStatus::try_from(*number) {
            Ok(v1::TaskStatus::Waiting) => statuses.push(TaskStatus::Waiting),
            Ok(v1::TaskStatus::Ready) => statuses.push(TaskStatus::Ready),
            Ok(v1::TaskStatus::Pending) => {
                statuses.extend([TaskStatus::Waiting, TaskStatus::Ready]);
            }
            Ok(v1::TaskStatus::Running) => statuses.push(TaskStatus::Running),
            Ok(v1::TaskStatus::Succeeded) => statuses.push(TaskStatus::Succeeded),
            Ok(v1::TaskStatus::Failed) => statuses.push(TaskStatus::Failed),
            Ok(v1::TaskStatus::Cancelled) => statuses.push(TaskStatus::Cancelled),
            Ok(v1::TaskStatus::Skipped) => statuses.push(TaskStatus::Skipped),
            Ok(v1::TaskStatus::Unspecified) | Err(_) => {
                return Err(Fault::invalid(
                    "status",
                    format!("{number} is not a status that this node knows"),
                    "upgrade the node, or leave the status out",
                ));
            }
        }
    }
    statuses.sort_unstable();
    statuses.dedup();
    Ok(TaskFilter {
        statuses,
        kind: given(&request.r#type).map(Into::into),
        queue: given(&request.queue).map(Into::into),
        name: given(&request.name).map(Into::into),
        created_after: request.created_after.map(Timestamp::from_micros),
        created_before: request.created_before.map(Timestamp::from_micros),
    })
}

fn given(text: &str) -> Option<&str> {
    if text.is_empty() { None } else { Some(text) }
}

/// A choice by its number: `None` when unspecified, a fault when this node does not know it.
fn choice<W: TryFrom<i32>, T>(
    field: &str,
    number: i32,
    domain: fn(W) -> Option<T>,
    unknown: &mut Vec<FieldError>,
) -> Option<T> {
    match W::try_from(number) {
        Ok(word) => domain(word),
        Err(_) => {
            let detail = format!("{number} is not a choice that this node knows");
            unknown.push(FieldError::invalid(field, detail, "upgrade the node, or leave it out"));
            None
        }
    }
}

const fn gap(word: v1::DstGap) -> Option<DstGap> {
    match word {
        v1::DstGap::Unspecified => None,
        v1::DstGap::Auto => Some(DstGap::Auto),
        v1::DstGap::Skip => Some(DstGap::Skip),
        v1::DstGap::Next => Some(DstGap::Next),
    }
}

const fn fold(word: v1::DstFold) -> Option<DstFold> {
    match word {
        v1::DstFold::Unspecified => None,
        v1::DstFold::Auto => Some(DstFold::Auto),
        v1::DstFold::First => Some(DstFold::First),
        v1::DstFold::Second => Some(DstFold::Second),
        v1::DstFold::Both => Some(DstFold::Both),
    }
}

const fn misfire(word: v1::Misfire) -> Option<Misfire> {
    match word {
        v1::Misfire::Unspecified => None,
        v1::Misfire::Skip => Some(Misfire::Skip),
        v1::Misfire::FireOnce => Some(Misfire::FireOnce),
    }
}

const fn overlap(word: v1::Overlap) -> Option<Overlap> {
    match word {
        v1::Overlap::Unspecified => None,
        v1::Overlap::Allow => Some(Overlap::Allow),
        v1::Overlap::Skip => Some(Overlap::Skip),
    }
}

const fn backoff(word: v1::Backoff) -> Option<Backoff> {
    match word {
        v1::Backoff::Unspecified => None,
        v1::Backoff::Fixed => Some(Backoff::Fixed),
        v1::Backoff::Exponential => Some(Backoff::Exponential),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> v1::TaskSpec {
        v1::TaskSpec { id: "a".into(), r#type: "exec".into(), ..v1::TaskSpec::default() }
    }

    fn no_id() -> String {
        "fresh".to_owned()
    }

    #[test]
    fn a_task_without_an_id_gets_a_fresh_one() {
        let task = new_task(v1::TaskSpec { id: String::new(), ..spec() }, no_id).expect("valid");
        assert_eq!(&*task.id, "fresh");
        assert_eq!(&*new_task(spec(), no_id).expect("valid").id, "a");
    }

    #[test]
    fn every_wrong_field_is_named_and_the_first_gives_the_reason() {
        let wrong = v1::TaskSpec {
            cron_expr: "0 0 * * *".into(),
            timezone: "Europe/Pariss".into(),
            priority: Some(10),
            ..spec()
        };
        let fault = new_task(wrong, no_id).expect_err("two fields are wrong");
        let fields: Vec<_> = fault.0.errors.iter().map(|e| e.field.as_str()).collect();
        assert_eq!(fields, ["priority", "timezone"]);
        assert_eq!(fault.code(), Code::InvalidArgument);
        assert_eq!(fault.0.reason, "FIELD_INVALID");
    }

    #[test]
    fn a_choice_of_a_newer_schema_is_refused() {
        let newer = v1::TaskSpec { every: Some(60_000), overlap: 99, ..spec() };
        let fault = new_task(newer, no_id).expect_err("99 is unknown");
        assert_eq!(fault.0.errors[0].field, "overlap");
    }

    #[test]
    fn pending_means_waiting_or_ready() {
        let request = v1::ListTasksRequest {
            status: vec![v1::TaskStatus::Pending.into(), v1::TaskStatus::Ready.into()],
            ..v1::ListTasksRequest::default()
        };
        let filter = task_filter(&request).expect("known statuses");
        assert_eq!(filter.statuses, [TaskStatus::Waiting, TaskStatus::Ready]);
    }
}
