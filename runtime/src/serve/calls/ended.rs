//! A cancel that comes after the end: a repeat of one that was carried out is answered as the first
//! was (P8.3), any other is told how the task ended.

use dtask_core::state::view::TaskStatus;
use dtask_proto::json::names;
use dtask_proto::v1;
use tonic::Code;

use super::Calls;
use crate::api::{Fault, views};

/// Runs read at once: one with thousands of runs costs some pages.
const PAGE: u32 = 1_000;

impl Calls {
    /// `fault` is why the cancel found nothing to end.
    pub(super) async fn cancelled_before(
        &self,
        request: &v1::CancelTaskRequest,
        fault: Fault,
    ) -> Result<v1::Task, Fault> {
        let (id, Some(number)) = (&*request.id, request.run) else {
            return self.cancelled_task(&request.id, fault).await;
        };
        if !matches!(fault.0.reason.as_str(), "TERMINAL" | "NOT_FOUND") {
            return Err(fault);
        }
        let of = v1::ListRunsRequest { task_id: id.to_owned(), ..Default::default() };
        let run = self.run(of, number).await?;
        match run.status() {
            v1::TaskStatus::Cancelled => Ok(views::task(self.view(id, false).await?)),
            // It ended just now, or waits for its own cancel to be carried out.
            v1::TaskStatus::Unspecified
            | v1::TaskStatus::Waiting
            | v1::TaskStatus::Ready
            | v1::TaskStatus::Running
            | v1::TaskStatus::Pending => Err(fault),
            v1::TaskStatus::Succeeded | v1::TaskStatus::Failed | v1::TaskStatus::Skipped => {
                let word = names::name::<v1::TaskStatus>(run.status).unwrap_or_default();
                let detail = format!("run {number} has already ended: {word}");
                Err(Fault::new(Code::FailedPrecondition, "TERMINAL", detail))
            }
        }
    }

    async fn cancelled_task(&self, id: &str, fault: Fault) -> Result<v1::Task, Fault> {
        if fault.0.reason != "TERMINAL" {
            return Err(fault);
        }
        match self.view(id, false).await {
            Ok(view) if view.status == TaskStatus::Cancelled => Ok(views::task(view)),
            Ok(_) | Err(_) => Err(fault),
        }
    }

    /// One run of a task.
    pub async fn run(&self, mut of: v1::ListRunsRequest, number: u32) -> Result<v1::Run, Fault> {
        of.page_size = Some(PAGE);
        // Numbers rise along the list.
        loop {
            let mut page = self.runs(of.clone()).await?;
            if let Some(place) = page.runs.iter().rposition(|run| run.run == number) {
                return Ok(page.runs.swap_remove(place));
            }
            if page.next_page_token.is_empty() {
                return Err(Fault::not_found("run of this task", &number.to_string()));
            }
            of.page_token = page.next_page_token;
        }
    }
}
