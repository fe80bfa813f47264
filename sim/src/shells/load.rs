//! The clients of the safety phase: what they ask, and how often they repeat it elsewhere.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use dtask_core::rng::Rng;
use dtask_proto::v1;
use dtask_runtime::api::spec;

use super::ask::{self, Answer, CUT, Question, ask};
use super::clock::{at, wall};
use super::cluster::Cluster;
use super::edge::Edge;
use super::specs::{self, When};
use crate::world::config::{around, log_uniform};

/// A client that is not answered within this asks elsewhere.
const PATIENCE: Duration = Duration::from_secs(12);
/// Tries of a submit before its client forgets it.
const TRIES_MAX: u32 = 8;
/// Tasks that a client remembers for later questions.
const KNOWN_MAX: usize = 100;

/// What all clients were told.
pub type Told = Arc<Mutex<Edge>>;

struct Client {
    cluster: Arc<Cluster>,
    told: Told,
    who: usize,
    rng: Rng,
    known: Vec<v1::TaskSpec>,
    made: u64,
}

/// A client's life: until the healing.
pub async fn client(cluster: Arc<Cluster>, told: Told, who: usize) {
    let rng = Rng::new(cluster.draw.seed).fork(&format!("client {who}"));
    let mut client = Client { cluster, told, who, rng, known: Vec::new(), made: 0 };
    while !client.over() {
        let think = around(&mut client.rng, client.cluster.draw.load.think);
        tokio::time::sleep(Duration::from_micros(think)).await;
        if let Some(question) = client.next() {
            client.put(question).await;
        }
    }
}

/// Asks once and judges the answer.
pub async fn once(
    cluster: &Arc<Cluster>,
    told: &Told,
    who: usize,
    rng: &mut Rng,
    question: &Question,
) -> Answer {
    invoked(cluster, question);
    let asked_at = at();
    let answer = tokio::time::timeout(PATIENCE, ask(cluster, rng, question)).await;
    let answer = answer.unwrap_or_else(|_| Answer::Refused(CUT.to_owned()));
    judge(cluster, told, who, asked_at, question, &answer);
    answer
}

/// Judges an answer as its client hears it.
pub fn judge(
    cluster: &Arc<Cluster>,
    told: &Told,
    who: usize,
    asked_at: u64,
    question: &Question,
    answer: &Answer,
) {
    let mut books = cluster.witness.books();
    let mut edge = told.lock().unwrap_or_else(PoisonError::into_inner);
    let verdict = edge.told(&mut books, asked_at, question, answer);
    let (kind, number) = name(answer);
    books.note(201 + who as u32, kind, [asked_at, number, 0]);
    books.judge(verdict);
}

/// S8's first half: what is submitted is written down before it leaves.
pub fn invoked(cluster: &Cluster, question: &Question) {
    let specs = match question {
        Question::Submit(spec) => std::slice::from_ref(&**spec),
        Question::Batch(specs) => specs.as_slice(),
        _ => return,
    };
    let mut books = cluster.witness.books();
    for spec in specs {
        if let Ok(task) = spec::new_task(spec.clone(), String::new) {
            books.promises.invoked(&task);
        }
    }
}

fn name(answer: &Answer) -> (&'static str, u64) {
    match answer {
        Answer::Accepted(results) => ("hears accepted", results.len() as u64),
        Answer::Task(task) => ("hears task", task.status as u64),
        Answer::Waited(done, _) => ("hears wait", u64::from(*done)),
        Answer::Tasks(tasks) => ("hears tasks", tasks.len() as u64),
        Answer::Executions(rows) => ("hears executions", rows.len() as u64),
        Answer::Refused(reason) if reason == CUT => ("hears nothing", 0),
        Answer::Refused(reason) => ("hears no", reason.len() as u64),
    }
}

impl Client {
    fn over(&self) -> bool {
        let books = self.cluster.witness.books();
        books.healed || books.failure.is_some()
    }

    /// Asks; a submit whose fate is not known is repeated with the same id.
    async fn put(&mut self, question: Question) {
        for _ in 0..TRIES_MAX {
            let (cluster, told) = (self.cluster.clone(), self.told.clone());
            let answer = once(&cluster, &told, self.who, &mut self.rng, &question).await;
            let again = match &answer {
                Answer::Refused(reason) => ask::may_try_again(reason),
                _ => false,
            };
            let submit = matches!(question, Question::Submit(_) | Question::Batch(_));
            if !again || !submit || self.over() {
                return;
            }
            let pause = 1_000 + self.rng.below(800_000);
            tokio::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    fn next(&mut self) -> Option<Question> {
        let weights = self.cluster.draw.load.weights;
        let total: u64 = weights.iter().sum();
        let mut draw = self.rng.below(total.max(1));
        let mut what = 0;
        while what < weights.len() - 1 && draw >= weights[what] {
            draw -= weights[what];
            what += 1;
        }
        let now = wall(&self.cluster.draw).as_micros();
        let pick = self.rng.below(self.known.len().max(1) as u64) as usize;
        let old = self.known.get(pick).cloned();
        let id = old.as_ref().map(|task| task.id.clone());
        Some(match what {
            0 => self.submit(When::Now),
            1 => self.submit(When::About(now)),
            2 => self.submit(When::Recurring(now)),
            3 => {
                let count = log_uniform(&mut self.rng, 2, 60);
                Question::Batch((0..count).map(|_| self.task(When::Now)).collect())
            }
            4 => Question::Submit(Box::new(old?)),
            5 => {
                let mut other = old?;
                other.payload = Bytes::from_static(b"\"another payload\"");
                Question::Submit(Box::new(other))
            }
            6 => Question::Cancel(id?),
            7 => Question::Look(id?),
            8 => Question::Wait(id?, self.rng.below(4_000) as i64),
            9 => Question::Trigger(id?),
            10 => Question::Delete(id?, self.rng.chance(1, 2)),
            _ if self.rng.chance(1, 2) => Question::List,
            _ => Question::Executions(id?),
        })
    }

    fn submit(&mut self, when: When) -> Question {
        Question::Submit(Box::new(self.task(when)))
    }

    fn task(&mut self, when: When) -> v1::TaskSpec {
        self.made += 1;
        let most = self.cluster.draw.load.payload_max;
        let task = specs::draw(&mut self.rng, self.who, self.made, most, when);
        if self.known.len() == KNOWN_MAX {
            self.known.swap_remove(0);
        }
        self.known.push(task.clone());
        task
    }
}
