//! What is seen, as lines of a dialogue.

use std::fmt::Write as _;

use dtask_core::id::Token;
use dtask_core::node::{Accepted, Rejection, Reply};
use dtask_core::state::view::{AttemptView, TaskView};
use dtask_core::time::Timestamp;

/// A moment, from the dialogue's beginning on.
pub(crate) fn when(at: Timestamp, began: Timestamp) -> String {
    let micros = at.as_micros() - began.as_micros();
    format!("{:+.1}s", micros as f64 / 1e6)
}

/// A caller's answer; `None` for what dialogues do not show.
pub(crate) fn reply(what: &str, reply: &Reply, began: Timestamp) -> Option<String> {
    Some(match reply {
        Reply::Submitted(answers) => {
            let each = answers.iter().map(|answer| match answer {
                Ok(accepted) => accepted_line(accepted, began),
                Err(why) => rejected(why),
            });
            format!("{what}: {}", each.collect::<Vec<_>>().join("; "))
        }
        Reply::Task(view) => format!("{what}: {}", task(view, began)),
        Reply::Attempts { task: task_view, attempts, .. } => {
            let each = attempts.iter().map(attempt);
            format!("{what}: {}, {}", task(task_view, began), each.collect::<Vec<_>>().join(", "))
        }
        Reply::Claimed => format!("{what}: claimed"),
        Reply::NotLive { .. } => format!("{what}: not in memory"),
        Reply::Repeated { .. } => format!("{what}: answered before, not in memory"),
        Reply::Rejected(why) => format!("{what}: {}", rejected(why)),
        Reply::Output { token, offset, data, end } => {
            let text = String::from_utf8_lossy(data);
            let end = if *end { ", the end" } else { "" };
            format!("{what}: token {token} from {offset}: \"{text}\"{end}")
        }
        Reply::Cluster(view) => {
            let lag = view.history_lag;
            let off = view.nodes.iter().filter_map(|node| {
                let ms = node.clock_offset_ms.filter(|ms| *ms != 0)?;
                Some(format!(", the clock of node {} is {ms:+} ms off", node.id))
            });
            let off: String = off.collect();
            let live = view.live_tasks;
            format!("node {}: {live} live tasks, history lags by {lag}{off}", view.node)
        }
        Reply::Tasks { .. } | Reply::Workers(_) | Reply::Applied { .. } => return None,
    })
}

fn accepted_line(accepted: &Accepted, began: Timestamp) -> String {
    let word = if accepted.new { "accepted" } else { "known" };
    let next = accepted.next_run_at.map(|at| format!(", next {}", when(at, began)));
    format!("{word}, {}{}", name(accepted.status), next.unwrap_or_default())
}

fn task(view: &TaskView, began: Timestamp) -> String {
    let mut line = name(view.status);
    if let Some(wait) = &view.wait {
        let _ = write!(line, " ({})", name(wait.code));
    }
    let several = view.recurrence.is_some() || view.runs_count > 1;
    if let Some(run) = view.last_run.as_ref().filter(|_| several) {
        let _ = write!(line, ", run {} {}", run.run, name(run.status));
        if let Some(of) = run.retry_of {
            let _ = write!(line, ", again for run {of}");
        }
        if !run.reason.is_empty() {
            let _ = write!(line, " ({})", run.reason);
        }
    }
    if let Some(next) = view.next_run_at {
        let _ = write!(line, ", next {}", when(next, began));
    }
    line
}

fn attempt(attempt: &AttemptView) -> String {
    let outcome = attempt.outcome.map_or_else(|| "running".to_owned(), name);
    format!("token {} on {} {outcome}", attempt.token, attempt.worker)
}

/// A variant's name in small letters.
fn name(word: impl std::fmt::Debug) -> String {
    let mut name = String::new();
    for letter in format!("{word:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// Tokens after a word, or nothing.
pub(crate) fn tokens(before: &str, tokens: &[Token]) -> String {
    if tokens.is_empty() {
        return String::new();
    }
    let each: Vec<String> = tokens.iter().map(ToString::to_string).collect();
    format!("{before} {}", each.join(" "))
}

fn rejected(why: &Rejection) -> String {
    match why {
        Rejection::IdConflict { .. } => "refused, the id has another spec".to_owned(),
        Rejection::NotFound { .. } => "refused, not found".to_owned(),
        Rejection::RequestReused => "refused, the request id came before".to_owned(),
        Rejection::Terminal { status } => format!("refused, already {}", name(status)),
        Rejection::Running => "refused, it is running".to_owned(),
        Rejection::NotLeader { leader: Some((node, _)) } => format!("refused, node {node} leads"),
        Rejection::NotLeader { leader: None } | Rejection::NoLeader => {
            "refused, nobody leads".to_owned()
        }
        Rejection::OutcomeUnknown => "outcome unknown".to_owned(),
        Rejection::Forgotten => "outcome unknown, the id may be forgotten".to_owned(),
        Rejection::InGap => "refused, history has a gap".to_owned(),
        Rejection::Full { what, .. } => format!("refused, full: {what}"),
        Rejection::Unavailable { reason } => format!("refused, {reason}"),
        Rejection::Invalid { field, detail } => format!("refused, {field}: {detail}"),
    }
}
