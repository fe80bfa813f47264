//! Judges what clients are told, after every shell between the machine and them: S7, S8, S9, S13,
//! S18 and S19 at the edge.

use std::collections::BTreeMap;

use dtask_core::id::Token;
use dtask_proto::v1;
use dtask_proto::v1::TaskStatus;

use super::ask::{Answer, Question};
use super::books::Books;
use super::seen;
use crate::check::ledger::Kind;
use crate::check::{Verdict, Violation, hold};

/// What clients were told so far.
#[derive(Debug, Default)]
pub struct Edge {
    /// Ids whose acceptance a client heard, and when first.
    accepted: BTreeMap<String, u64>,
    /// Ids that some call was told to have created.
    created: BTreeMap<String, u64>,
    /// Creations whose deletion a client heard of once it was done, and when first.
    deleted: BTreeMap<(String, u64), u64>,
    /// How one-shots ended, by id and incarnation, and when a client first heard of it.
    ended: BTreeMap<(String, u64), (i32, u64)>,
}

impl Edge {
    /// Ids whose acceptance was heard.
    pub fn accepted(&self) -> impl Iterator<Item = &String> {
        self.accepted.keys()
    }

    /// A client that asked at `asked_at` is told this.
    pub fn told(
        &mut self,
        books: &mut Books,
        asked_at: u64,
        question: &Question,
        answer: &Answer,
    ) -> Verdict {
        match (question, answer) {
            (_, Answer::Refused(reason)) => self.refused(books, asked_at, question, reason),
            (Question::Submit(spec), Answer::Accepted(results)) => {
                self.submitted(books, std::slice::from_ref(spec), results)
            }
            (Question::Batch(specs), Answer::Accepted(results)) => {
                self.submitted(books, specs, results)
            }
            (
                Question::Look(id)
                | Question::Cancel(id)
                | Question::Trigger(id)
                | Question::Delete(id, _),
                Answer::Task(task),
            ) => {
                hold!("S9", task.id == *id, "asked of {id}, told of {}", task.id);
                let linearizable = matches!(question, Question::Look(_));
                if matches!(question, Question::Delete(..)) {
                    let record = books.chain.ledger().record(task.incarnation);
                    if record.is_some_and(|record| record.deleted && record.done.is_some()) {
                        let key = (task.id.clone(), task.incarnation);
                        self.deleted.entry(key).or_insert_with(super::clock::at);
                    }
                }
                self.task(books, task, linearizable.then_some(asked_at))
            }
            (Question::Wait(id, _), Answer::Waited(done, task)) => {
                hold!("S9", task.id == *id, "waited for {id}, told of {}", task.id);
                if *done {
                    let over = books.chain.ledger().find(id).is_some_and(|(_, record)| {
                        record.done.is_some()
                            || matches!(record.kind, Kind::Recurring { .. } | Kind::Again { .. })
                    });
                    hold!("S13", over, "{id} is said to have ended and the log says otherwise");
                }
                self.task(books, task, Some(asked_at))
            }
            (Question::List, Answer::Tasks(tasks)) => {
                tasks.iter().try_for_each(|task| self.task(books, task, Some(asked_at)))
            }
            (Question::Executions(id), Answer::Executions(rows)) => {
                for row in rows {
                    hold!("S9", row.task_id == *id, "asked of {id}, told of {}", row.task_id);
                    let known = books.chain.ledger().attempt(Token(row.id)).is_some();
                    hold!("S8", known, "execution {} was never opened", row.id);
                }
                Ok(())
            }
            _ => Err(Violation::new("S9", format!("{question:?} is answered {answer:?}"))),
        }
    }

    fn submitted(
        &mut self,
        books: &mut Books,
        specs: &[impl std::borrow::Borrow<v1::TaskSpec>],
        results: &[Result<(String, bool), String>],
    ) -> Verdict {
        hold!("S9", specs.len() == results.len(), "{} answers", results.len());
        for (spec, result) in specs.iter().zip(results) {
            let Ok((id, created)) = result else { continue };
            let wanted = &spec.borrow().id;
            hold!("S9", id == wanted, "submitted {wanted}, told of {id}");
            let known = books.chain.ledger().find(id).is_some();
            hold!("S7", known, "{id} is acknowledged and the log does not hold it");
            self.accepted.entry(id.clone()).or_insert_with(super::clock::at);
            if *created {
                let times = self.created.entry(id.clone()).or_default();
                *times += 1;
                hold!("S9", *times == 1, "{id} is said to be created {times} times");
            }
        }
        Ok(())
    }

    /// `asked_at` is set for answers that may not be older than their question.
    fn task(&mut self, books: &Books, task: &v1::Task, asked_at: Option<u64>) -> Verdict {
        let found = books.chain.ledger().record(task.incarnation);
        let Some(record) = found else {
            let detail = format!("task {} (incarnation {}) never was", task.id, task.incarnation);
            return Err(Violation::new("S8", detail));
        };
        hold!("S8", *record.id == *task.id, "incarnation {} is not {}", task.incarnation, task.id);
        let over = [TaskStatus::Succeeded, TaskStatus::Failed, TaskStatus::Cancelled]
            .iter()
            .any(|status| *status as i32 == task.status);
        let Some(asked_at) = asked_at.filter(|_| matches!(record.kind, Kind::OneShot)) else {
            return Ok(());
        };
        let key = (task.id.clone(), task.incarnation);
        let gone = self.deleted.get(&key).is_some_and(|heard| *heard < asked_at);
        hold!("S19", !gone, "{} was deleted and is found when asked at {asked_at}", task.id);
        let before = self.ended.get(&key).copied();
        hold!(
            "S13",
            before.is_none_or(|(status, heard)| status == task.status || asked_at < heard),
            "{} had ended as {before:?} and is {} when asked at {asked_at}; the log says {:?}, \
             told {:?}",
            task.id,
            task.status,
            record.done,
            task.last_run
        );
        if over {
            hold!("S13", record.done.is_some(), "{} is said to have ended", task.id);
            self.ended.entry(key).or_insert((task.status, super::clock::at()));
        }
        Ok(())
    }

    /// A fault of ours is never an answer; what was acknowledged and not deleted is never missed,
    /// also while history is away (P8.6).
    fn refused(
        &mut self,
        books: &mut Books,
        asked_at: u64,
        question: &Question,
        reason: &str,
    ) -> Verdict {
        let ours = ["INTERNAL", "JSON_INVALID", "FIELD_INVALID", "METHOD_NOT_ALLOWED"];
        let fault = ours.iter().any(|word| reason.contains(word));
        hold!("S9", !fault, "{question:?} is refused as {reason}");
        if reason == "ID_CONFLICT" {
            books.seen.hit(seen::CONFLICT_REFUSED);
        }
        let id = match question {
            Question::Look(id) | Question::Wait(id, _) => id,
            _ => return Ok(()),
        };
        let heard = self.accepted.get(id).is_some_and(|at| *at < asked_at);
        if heard && reason == "NOT_FOUND" {
            let record = books.chain.ledger().find(id);
            let deleted = record.is_some_and(|(_, record)| record.deleted);
            hold!("S19", deleted, "{id} was acknowledged, is not deleted, and is not found");
        }
        Ok(())
    }
}
