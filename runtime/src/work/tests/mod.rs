//! The worker's shell with real processes and a real connection.

mod processes;
mod sessions;

use bytes::Bytes;
use dtask_core::id::{RunNumber, Token};
use dtask_core::time::Timestamp;
use dtask_core::worker::Assignment;

fn assignment(token: u64, kind: &str, payload: impl Into<Bytes>) -> Assignment {
    Assignment {
        token: Token(token),
        task_id: "report-7".into(),
        task_name: "Nightly report".into(),
        run: RunNumber(3),
        attempt: 2,
        kind: kind.into(),
        payload: payload.into(),
        scheduled_for: Timestamp::from_seconds(1_700_000_000),
        run_timeout_ms: 60_000,
    }
}

/// The payload of an `exec` task that runs a shell script.
fn script(text: &str) -> String {
    serde_json::json!({ "argv": ["sh", "-c", text] }).to_string()
}
