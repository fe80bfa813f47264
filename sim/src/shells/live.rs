//! A run: the safety phase under faults, then the healing, after which the cluster must lead (L1),
//! run fresh tasks (L2), end what was due (L3), empty its history lag (L4) and agree (L5, S6).

use std::sync::Arc;
use std::time::Duration;

use dtask_core::rng::Rng;
use dtask_proto::v1;
use futures_util::future::join_all;

use super::ask::{self, Answer, Question};
use super::books::{Books, Witness};
use super::clock::at;
use super::cluster::Cluster;
use super::draw::Draw;
use super::load::{self, Told};
use super::run::Sabotage;
use super::{operator, specs};
use crate::check::history::s18_history_is_exact;
use crate::check::{Verdict, Violation, hold};

/// L1: as the World's, and the longest pause of madsim's own resending.
const LEAD: u64 = 30_000_000;
/// L2.
const FRESH: u64 = 40_000_000;
/// How many fresh tasks L2 demands.
const FRESH_TASKS: usize = 10;
/// L4 and L5.
const LAG: u64 = 90_000_000;
/// L3: leases, timeouts and all retries, twice over because replicated time may run at half speed.
const DUE: u64 = 400_000_000;
/// How often the phases look.
const LOOK: Duration = Duration::from_millis(100);
/// Looks for a moment at which history lags by nothing, once all goals are reached.
const LAG_LOOKS: u32 = 200;
/// Acknowledged tasks that are read at the end.
const READ_BACK: usize = 30;

/// Runs both phases, or until an invariant fails; returns the simulated time.
pub async fn run(witness: Witness, draw: Arc<Draw>, sabotage: Sabotage) -> u64 {
    let cluster = Cluster::start(witness.clone(), draw.clone(), sabotage);
    let own = cluster.clone();
    cluster.client_machine(move || clients(own.clone()));
    operator::begin(&cluster);
    while at() < draw.safety && witness.books().failure.is_none() {
        tokio::time::sleep(LOOK).await;
    }
    if witness.books().failure.is_none() {
        let keeper = operator::heal(&cluster);
        let verdict = converge(&cluster).await;
        keeper.abort();
        witness.books().judge(verdict);
    }
    let ended = at();
    cluster.end();
    // What is killed is dropped at its next turn, inside the simulation.
    tokio::time::sleep(LOOK).await;
    ended
}

/// The life of the clients' machine: the load, then fresh tasks, then a look back.
async fn clients(cluster: Arc<Cluster>) {
    let told = Told::default();
    let witness = cluster.witness.clone();
    for who in 0..cluster.draw.load.clients {
        madsim::task::spawn_local(load::client(cluster.clone(), told.clone(), who));
    }
    let latest = loop {
        if let Some(latest) = witness.books().fresh_until {
            break latest;
        }
        tokio::time::sleep(LOOK).await;
    };
    let all = (0..FRESH_TASKS).map(|number| fresh(&cluster, &told, number, latest));
    for verdict in join_all(all).await {
        let mut books = witness.books();
        books.fresh_done += usize::from(verdict.is_ok());
        books.judge(verdict);
    }
    while !witness.books().read_back {
        tokio::time::sleep(LOOK).await;
    }
    read_back(&cluster, &told).await;
    // A node with nothing to do takes no step, and so is not audited.
    for place in cluster.draw.node_places() {
        ask::by_stub(place, &Question::Look("fresh-0".to_owned())).await;
    }
    witness.books().read = true;
    std::future::pending::<()>().await;
}

async fn converge(cluster: &Arc<Cluster>) -> Verdict {
    let witness = &cluster.witness;
    let healed = at();
    let heal_time = witness.books().chain.ledger().at();
    until(witness, healed + LEAD, |books| books.leads().is_some())
        .await
        .map_err(|()| Violation::new("L1", "no leader after the healing"))?;
    let led = at();
    let lag_goal = witness.books().chain.changes();
    let apply_goal = witness.books().chain.len();
    witness.books().fresh_until = Some(led + FRESH);
    until(witness, led + 2 * FRESH, |books| books.fresh_done == FRESH_TASKS)
        .await
        .map_err(|()| Violation::new("L2", "fresh tasks are not answered"))?;
    until(witness, healed + LAG, |books| books.history.through() >= lag_goal)
        .await
        .map_err(|()| Violation::new("L4", format!("history does not reach change {lag_goal}")))?;
    until(witness, healed + LAG, |books| books.nodes.iter().all(|it| it.applied >= apply_goal))
        .await
        .map_err(|()| Violation::new("L5", format!("not all have applied entry {apply_goal}")))?;
    let due = until(witness, healed + DUE, |books| books.chain.overdue(heal_time).is_none());
    if due.await.is_err() {
        let detail = witness.books().chain.overdue(heal_time).unwrap_or_default();
        return Err(Violation::new("L3", detail));
    }
    for _ in 0..LAG_LOOKS {
        let behind = {
            let books = witness.books();
            books.history.through() < books.chain.changes()
        };
        if !behind {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    {
        let mut books = witness.books();
        (books.read_back, books.audit) = (true, true);
    }
    until(witness, at() + LAG, |books| books.read)
        .await
        .map_err(|()| Violation::new("L2", "what was accepted is not read in time"))?;
    let audited =
        until(witness, at() + LEAD, |books| books.nodes.iter().all(|node| node.audit.is_some()));
    audited.await.map_err(|()| Violation::new("L5", "a node takes no step"))?;
    end(&witness.books())
}

/// Waits until it holds; an error at `latest`, or when an invariant has failed.
async fn until(witness: &Witness, latest: u64, holds: impl Fn(&Books) -> bool) -> Result<(), ()> {
    loop {
        {
            let books = witness.books();
            if holds(&books) {
                return Ok(());
            }
            if at() > latest || books.failure.is_some() {
                return Err(());
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// L2: a fresh task is accepted, runs and is seen to succeed.
async fn fresh(cluster: &Arc<Cluster>, told: &Told, number: usize, latest: u64) -> Verdict {
    let mut rng = Rng::new(cluster.draw.seed).fork(&format!("fresh {number}"));
    let spec = specs::fresh(number);
    let id = spec.id.clone();
    let mut question = Question::Submit(Box::new(spec));
    loop {
        match load::once(cluster, told, 90, &mut rng, &question).await {
            Answer::Accepted(results) if results.iter().all(Result::is_ok) => {
                question = Question::Wait(id.clone(), 5_000);
            }
            Answer::Waited(true, task) if task.status == v1::TaskStatus::Succeeded as i32 => {
                return Ok(());
            }
            _ => {}
        }
        if cluster.witness.books().failure.is_some() {
            return Ok(());
        }
        let record = {
            let books = cluster.witness.books();
            books.chain.ledger().find(&id).map(|(serial, record)| format!("{serial} {record:?}"))
        };
        hold!("L2", at() <= latest, "{id} has not run within the bound: {record:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// S7 and S19 at the edge: what clients heard accepted can be read over every surface.
async fn read_back(cluster: &Arc<Cluster>, told: &Told) {
    let mut rng = Rng::new(cluster.draw.seed).fork("read back");
    let ids: Vec<String> = {
        let edge = told.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        edge.accepted().take(READ_BACK).cloned().collect()
    };
    for id in ids {
        load::once(cluster, told, 91, &mut rng, &Question::Look(id)).await;
    }
}

/// What must hold at the very end: S7, S10, S18, and S6 in full.
fn end(books: &Books) -> Verdict {
    let (ledger, state) = (books.chain.ledger(), books.chain.state());
    books.promises.s7_nothing_acknowledged_is_lost(
        ledger,
        |id| state.find(id).is_some(),
        |id| books.history.task(id).is_some(),
    )?;
    s18_history_is_exact(&books.chain, &books.history)?;
    for (place, node) in books.nodes.iter().enumerate() {
        if let Some(Err(error)) = &node.audit {
            return Err(Violation::new("S6", format!("node {}: {error}", place + 1)));
        }
    }
    books.chain.s10_everything_unfinished_is_awaited()
}
