//! One life of a worker process: the runtime's worker shell with scripted handlers, which take
//! time, fail, hang, ignore being asked to stop, and leave effects in a store outside.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dtask_core::id::{InstanceId, Token};
use dtask_core::rng::Rng;
use dtask_runtime::work::{self, Handlers, TaskError, TaskHandle, WorkConfig};

use super::books::Witness;
use super::cluster::{self, Cluster};
use super::seen;
use crate::check::Violation;
use crate::check::effects::RunKey;
use crate::world::config::{around, log_uniform};
use crate::world::worker::KINDS;

/// How long a worker that drains waits for its handlers.
const DRAIN: Duration = Duration::from_secs(2);

/// Lives until it has drained or was refused.
pub async fn life(cluster: Arc<Cluster>, place: usize) {
    let witness = cluster.witness.clone();
    let number = {
        let mut books = witness.books();
        let worker = &mut books.workers[place];
        worker.life += 1;
        worker.up = true;
        worker.life
    };
    let draw = cluster.draw.clone();
    let mut rng = Rng::new(draw.seed).fork(&format!("worker {place}"));
    let spare = place >= draw.workers;
    let mut kinds: Vec<&str> = KINDS[..3].iter().copied().filter(|_| rng.chance(2, 3)).collect();
    if kinds.is_empty() || spare {
        kinds = KINDS.to_vec();
    }
    let slots = if spare { 64 } else { 1 + rng.below(draw.slots_max) as u32 };
    let mut rng = rng.fork(&format!("life {number}"));
    let instance = InstanceId(rng.next_u64() | 1);
    {
        let mut books = witness.books();
        books.instances.insert(instance, place);
        books.note(101 + place as u32, "starts", [u64::from(number), instance.0, 0]);
    }
    let mut handlers = Handlers::new();
    for kind in kinds {
        let script = Script { cluster: cluster.clone(), instance, rng: rng.fork("scripts") };
        let made = handlers.function(kind, move |handle| script.clone().run(handle));
        handlers = match made {
            Ok(handlers) => handlers,
            Err(error) => {
                return witness.books().judge(Err(Violation::new("L7", error.to_string())));
            }
        };
    }
    let mut stopping = cluster.stopping(draw.nodes + place);
    let config = WorkConfig {
        name: format!("w{}", place + 1),
        instance,
        servers: draw.node_places().map(|node| cluster::grpc(node).to_string()).collect(),
        slots,
        queues: Vec::new(),
        labels: Vec::new(),
        drain_timeout: DRAIN,
        handlers,
    };
    let ended = work::run(config, async move {
        if stopping.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    })
    .await;
    let mut books = witness.books();
    match ended {
        Ok(_) => books.seen.hit(seen::WORKER_DRAINED),
        Err(error) => books.judge(Err(Violation::new("L6", format!("w{}: {error}", place + 1)))),
    }
    books.workers[place].up = false;
    books.note(101 + place as u32, "ends", [0, 0, 0]);
}

/// What handlers of one instance do.
#[derive(Clone)]
struct Script {
    cluster: Arc<Cluster>,
    instance: InstanceId,
    rng: Rng,
}

/// A handler that runs; dropped, nothing of it is left.
struct Live {
    witness: Witness,
    key: RunKey,
    token: Token,
}

impl Drop for Live {
    fn drop(&mut self) {
        let mut books = self.witness.books();
        books.outside.ended(&self.key, self.token);
        books.note(100, "handler ends", [self.token.0, 0, 0]);
    }
}

impl Script {
    async fn run(self, mut handle: TaskHandle) -> Result<Bytes, TaskError> {
        let assignment = handle.assignment.clone();
        let token = assignment.token;
        let key = (assignment.task_id.clone(), assignment.run.0);
        let witness = &self.cluster.witness;
        let draw = &self.cluster.draw.worker;
        let healed = {
            let mut books = witness.books();
            books.handler_starts(self.instance, &assignment);
            books.note(100, "handler starts", [token.0, u64::from(assignment.attempt), 0]);
            books.healed
        };
        let _live = Live { witness: witness.clone(), key: key.clone(), token };
        let mut rng = self.rng.fork(&format!("token {token}"));
        let most = if healed { 20_000 } else { draw.handler_max };
        let half = Duration::from_micros(log_uniform(&mut rng, 1_000, most.max(1_000)) / 2);
        let fails = !healed && rng.chance(draw.fail_permille, 1_000);
        let hangs = !healed && rng.chance(draw.hang_permille, 1_000);
        let deaf = rng.chance(1, 4);
        let grace = Duration::from_micros(1_000 + around(&mut rng, 300_000));
        let log = handle.clone();
        let work = async {
            log.log(format!("token {token}\n")).await;
            tokio::time::sleep(half).await;
            witness.books().outside.effect(&key, token);
            if hangs {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(half).await;
        };
        let stopped = async {
            handle.stopped().await;
            if deaf {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(grace).await;
        };
        tokio::select! {
            biased;
            () = stopped => return Err(TaskError::retry("stopped")),
            () = work => {}
        }
        match fails {
            true if rng.chance(7, 8) => Err(TaskError::retry("scripted")),
            true => Err(TaskError::fatal("scripted")),
            false => Ok(Bytes::from_static(b"\"done\"")),
        }
    }
}
