//! What leaves at the end of a turn: starts, live output, reports.

use alloc::vec::Vec;

use super::{Attempts, Held};
use crate::id::Token;
use crate::worker::config::{REPORT_BYTES_PER_FRAME, REPORTS_PER_FRAME};
use crate::worker::frame::{Report, WorkerFrame};

impl Attempts {
    /// Someone reads the live output of `token` from `offset` on.
    pub(in crate::worker) fn follow(&mut self, token: Token, offset: u64) {
        match self.held.get_mut(&token) {
            Some(Held::Running(running)) => {
                running.live.follow(offset);
                if running.live.is_owing() {
                    self.owing.insert(token);
                }
            }
            Some(Held::Ended(ended)) => {
                let tail = &ended.report.tail;
                let begin = ended.written - tail.len() as u64;
                let from = offset.clamp(begin, ended.written);
                let skip = usize::try_from(from - begin).unwrap_or(usize::MAX).min(tail.len());
                self.last_pieces.push(WorkerFrame::Output {
                    token,
                    offset: from,
                    data: tail.slice(skip..),
                    end: true,
                });
            }
            None => self.last_pieces.push(end_of_output(token, offset)),
        }
    }

    /// Nobody reads the live output of `token`.
    pub(in crate::worker) fn unfollow(&mut self, token: Token) {
        self.owing.remove(&token);
        if let Some(Held::Running(running)) = self.held.get_mut(&token) {
            running.live.unfollow();
        }
    }

    /// Handlers that have started and still run, to be announced.
    pub(in crate::worker) fn take_started(&mut self) -> Option<WorkerFrame> {
        let list: Vec<_> = self
            .started
            .drain(..)
            .filter_map(|token| match self.held.get(&token)? {
                Held::Running(running) => Some((token, running.started_at?)),
                Held::Ended(_) => None,
            })
            .collect();
        (!list.is_empty()).then_some(WorkerFrame::Started(list))
    }

    /// Output for readers: what ended attempts owe, and with `running` a piece of each other.
    pub(in crate::worker) fn take_output(
        &mut self,
        running: bool,
        mut send: impl FnMut(WorkerFrame),
    ) {
        self.last_pieces.drain(..).for_each(&mut send);
        if !running {
            return;
        }
        let held = &mut self.held;
        self.owing.retain(|&token| {
            let Some(Held::Running(running)) = held.get_mut(&token) else { return false };
            if let Some(piece) = running.live.next_piece() {
                let (offset, data) = (piece.offset, piece.data);
                send(WorkerFrame::Output { token, offset, data, end: false });
            }
            running.live.is_owing()
        });
    }

    /// Reports that were not sent in this session, in frames of bounded size.
    pub(in crate::worker) fn take_reports(&mut self, mut send: impl FnMut(WorkerFrame)) {
        let (mut frame, mut bytes) = (Vec::new(), 0);
        for token in self.ended.drain(..) {
            let Some(Held::Ended(ended)) = self.held.get_mut(&token) else { continue };
            if ended.sent {
                continue;
            }
            ended.sent = true;
            let size = size_of_report(&ended.report);
            if frame.len() >= REPORTS_PER_FRAME
                || (bytes + size > REPORT_BYTES_PER_FRAME && !frame.is_empty())
            {
                send(WorkerFrame::Reports(core::mem::take(&mut frame)));
                bytes = 0;
            }
            bytes += size;
            frame.push(ended.report.clone());
        }
        if !frame.is_empty() {
            send(WorkerFrame::Reports(frame));
        }
    }
}

pub(super) const fn end_of_output(token: Token, offset: u64) -> WorkerFrame {
    WorkerFrame::Output { token, offset, data: bytes::Bytes::new(), end: true }
}

fn size_of_report(report: &Report) -> usize {
    64 + report.output.len() + report.error.len() + report.tail.len()
}
