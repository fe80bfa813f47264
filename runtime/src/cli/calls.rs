//! Calls to the cluster: the host of core's `Client` machine over tonic channels.
//!
//! The machine decides which node is asked and whether a request may be sent again; here it is
//! sent, and its answer read. Nodes forward to the leader, so any of them will do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use dtask_core::client::{CallConfig, Client, Effect, Input, Outcome, Repeat, TryId, Verdict};
use dtask_core::limits;
use dtask_core::machine::Driver;
use dtask_core::time::{Instant, Now};
use dtask_proto::v1::cluster_service_client::ClusterServiceClient;
use dtask_proto::v1::task_service_client::TaskServiceClient;
use dtask_proto::v1::worker_admin_service_client::WorkerAdminServiceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use super::fail::{Failure, code};
use crate::api::Fault;

/// The wait for a connection.
const CONNECT: Duration = Duration::from_secs(2);
/// How long a call may take altogether: several elections (P3.5).
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one node may take to answer, beyond what it was asked to wait.
const TRY: Duration = Duration::from_secs(10);
/// Rounds over nodes that cannot be connected to: a second or two.
const ROUNDS_MAX: u32 = 6;
/// A connection that is idle this long is probed, and given up after as long without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How the failure to connect begins.
const CANNOT_REACH: &str = "cannot reach";

/// The services of one node.
#[derive(Clone, Debug)]
pub struct Services {
    /// Tasks.
    pub tasks: TaskServiceClient<Channel>,
    /// Workers.
    pub workers: WorkerAdminServiceClient<Channel>,
    /// The cluster.
    pub cluster: ClusterServiceClient<Channel>,
    /// An earlier sending of this call may have been done (P8.2).
    pub again: bool,
}

/// A caller's connections.
#[derive(Debug)]
pub struct Calls {
    /// The node that answered last stands first.
    servers: RefCell<Vec<Box<str>>>,
    connected: RefCell<BTreeMap<Box<str>, Services>>,
    begun: std::time::Instant,
}

/// One sending's end: what the machine is told, and what the caller gets if it is final.
struct Ending<T> {
    verdict: Verdict,
    result: Result<T, Failure>,
}

type Sending<'a, T> = Pin<Box<dyn Future<Output = Ending<T>> + 'a>>;

impl Calls {
    /// Asks these nodes, `host:port`; connects when it is first needed.
    pub fn new(servers: &[String]) -> Self {
        Self {
            servers: RefCell::new(servers.iter().map(|server| server.as_str().into()).collect()),
            connected: RefCell::default(),
            begun: std::time::Instant::now(),
        }
    }

    /// Calls until a node answers.
    ///
    /// # Errors
    /// What the cluster refused; exit code 5 when nothing was done, 6 when that is not known.
    pub async fn call<T>(
        &self,
        repeat: Repeat,
        ask: impl AsyncFn(Services) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        self.call_that_waits(Duration::ZERO, repeat, ask).await
    }

    /// The same for a question whose answer may take `wait` by its own nature.
    ///
    /// # Errors
    /// As [`Calls::call`].
    pub async fn call_that_waits<T>(
        &self,
        wait: Duration,
        repeat: Repeat,
        ask: impl AsyncFn(Services) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let mut driver = Driver::new(Client::new(CallConfig {
            servers: self.servers.borrow().clone(),
            repeat,
            patience: PATIENCE + wait,
            try_timeout: TRY + wait,
            rounds_max: ROUNDS_MAX,
            seed: seed(),
        }));
        let mut sending: Option<(TryId, Sending<'_, T>)> = None;
        // What the latest sending brought: the answer, or why there is none.
        let mut latest = Err(Failure::new(code::UNREACHABLE, "no node was asked"));
        driver.wake(self.now());
        loop {
            driver.flush(self.now());
            for effect in driver.effects() {
                match effect {
                    Effect::Send { attempt, server, again } => {
                        sending = Some((attempt, Box::pin(self.send(server, again, &ask))));
                    }
                    Effect::Abandon { attempt: _ } => {
                        sending = None;
                        latest = Err(Failure::new(code::UNREACHABLE, "a node did not answer"));
                    }
                    Effect::Done(outcome) => return self.done(outcome, repeat, latest),
                }
            }
            let sleep = driver.sleep(self.now());
            let ended = async {
                match &mut sending {
                    Some((attempt, sending)) => (*attempt, sending.await),
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                (attempt, ending) = ended => {
                    sending = None;
                    latest = ending.result;
                    driver.feed(self.now(), Input::Ended { attempt, verdict: ending.verdict });
                }
                () = tokio::time::sleep(sleep.unwrap_or_default()) => driver.wake(self.now()),
            }
        }
    }

    /// A stream has broken: tells whether another one may go on.
    ///
    /// # Errors
    /// What the cluster refused.
    pub async fn broken(&self, status: &Status) -> Result<(), Failure> {
        let (verdict, failure) = judge(status);
        self.connected.borrow_mut().clear();
        self.servers.borrow_mut().rotate_left(1);
        match verdict {
            Verdict::Answered => Err(failure),
            Verdict::NotLeader { .. }
            | Verdict::Busy { .. }
            | Verdict::Unreachable
            | Verdict::Unknown => {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(())
            }
        }
    }

    async fn send<T>(
        &self,
        server: Box<str>,
        again: bool,
        ask: &impl AsyncFn(Services) -> Result<Response<T>, Status>,
    ) -> Ending<T> {
        let services = match self.services(&server).await {
            Ok(services) => services,
            Err(why) => {
                let why = format!("{CANNOT_REACH} {server}: {why}");
                let result = Err(Failure::new(code::UNREACHABLE, why));
                return Ending { verdict: Verdict::Unreachable, result };
            }
        };
        match ask(Services { again, ..services }).await {
            Ok(answer) => Ending { verdict: Verdict::Answered, result: Ok(answer.into_inner()) },
            Err(status) => {
                let (verdict, failure) = judge(&status);
                if verdict == Verdict::Unknown {
                    self.connected.borrow_mut().remove(&server);
                }
                Ending { verdict, result: Err(failure) }
            }
        }
    }

    async fn services(&self, server: &str) -> Result<Services, String> {
        if let Some(services) = self.connected.borrow().get(server) {
            return Ok(services.clone());
        }
        let services = Services::new(connect(server).await?);
        self.connected.borrow_mut().insert(server.into(), services.clone());
        Ok(services)
    }

    fn done<T>(
        &self,
        outcome: Outcome,
        repeat: Repeat,
        latest: Result<T, Failure>,
    ) -> Result<T, Failure> {
        match (outcome, latest) {
            (Outcome::Answered { attempt: _, server }, answer) => {
                let mut servers = self.servers.borrow_mut();
                if let Some(place) = servers.iter().position(|known| *known == server) {
                    servers.rotate_left(place);
                }
                answer
            }
            (Outcome::Unknown, _) => {
                let failure = Failure::from(Fault::outcome_unknown());
                Err(match repeat {
                    Repeat::Read | Repeat::SameId => failure,
                    Repeat::Once => failure.hint("`dtask task get ID` shows whether it was done"),
                })
            }
            (Outcome::Busy, Err(why)) => Err(Failure { code: code::REFUSED, ..why }),
            (Outcome::Unreachable, Err(why)) => {
                let said = why.message.trim_end_matches("; nothing was done");
                let failure = Failure::new(code::UNREACHABLE, format!("{said}; nothing was done"));
                let servers = self.servers.borrow().join(", ");
                Err(failure.hint(if said.starts_with(CANNOT_REACH) {
                    format!(
                        "is a scheduler running at {servers}? `dtask dev` starts one, --server \
                         names others"
                    )
                } else {
                    "`dtask cluster status` shows which nodes are alive".to_owned()
                }))
            }
            (Outcome::Busy | Outcome::Unreachable, Ok(answer)) => Ok(answer),
        }
    }

    fn now(&self) -> Now {
        let micros = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        Now { mono: Instant::from_micros(micros), wall: super::now() }
    }
}

impl Services {
    fn new(channel: Channel) -> Self {
        let max = limits::MESSAGE_BYTES_MAX;
        Self {
            tasks: TaskServiceClient::new(channel.clone())
                .max_decoding_message_size(max)
                .max_encoding_message_size(max),
            workers: WorkerAdminServiceClient::new(channel.clone()).max_decoding_message_size(max),
            cluster: ClusterServiceClient::new(channel).max_decoding_message_size(max),
            again: false,
        }
    }
}

/// What a status means for the call, and for the caller if it is final.
fn judge(status: &Status) -> (Verdict, Failure) {
    if let Some(fault) = Fault::from_status(status) {
        let retry_after = fault.0.retry_after.unwrap_or_default();
        let verdict = match fault.0.reason.as_str() {
            "NO_LEADER" => Verdict::NotLeader { leader: None },
            // Without a time to retry after it is final: a re-send whose id may be forgotten.
            "OUTCOME_UNKNOWN" if fault.0.retry_after.is_some() => Verdict::Unknown,
            "UNAVAILABLE" | "QUEUE_FULL" => {
                Verdict::Busy { retry_after_ms: u64::try_from(retry_after).unwrap_or(0) }
            }
            _ => Verdict::Answered,
        };
        return (verdict, fault.into());
    }
    let text = status.message();
    match status.code() {
        // The transport's: the request may have arrived before it broke.
        Code::Unavailable
        | Code::Unknown
        | Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Aborted
        | Code::DataLoss => {
            (Verdict::Unknown, Failure::new(code::UNREACHABLE, format!("connection lost: {text}")))
        }
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => {
            let message = format!("{:?}: {text}", status.code());
            let hint = "is this a DTask scheduler of the same version?";
            (Verdict::Answered, Failure::new(code::REFUSED, message).hint(hint))
        }
    }
}

/// A connection to a node.
async fn connect(address: &str) -> Result<Channel, String> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|_| "not an address; write HOST:PORT".to_owned())?;
    endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .tcp_nodelay(true)
        .connect()
        .await
        .map_err(|error| innermost(&error))
}

/// The last cause: "connection refused" rather than "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}

/// Spreads the retries of many callers.
#[cfg(not(madsim))]
fn seed() -> u64 {
    u64::from(std::process::id())
}

/// In simulation a run must not depend on the process that it happens in.
#[cfg(madsim)]
const fn seed() -> u64 {
    1
}

#[cfg(all(test, not(madsim)))]
mod tests {
    use super::*;

    fn verdict(fault: Fault) -> Verdict {
        judge(&fault.into_status()).0
    }

    #[test]
    fn refusals_are_final_and_a_missing_leader_is_not() {
        assert_eq!(verdict(Fault::not_found("task", "a")), Verdict::Answered);
        assert_eq!(verdict(Fault::invalid("queue", "too long", "")), Verdict::Answered);
        assert_eq!(verdict(Fault::no_leader()), Verdict::NotLeader { leader: None });
        assert_eq!(verdict(Fault::outcome_unknown()), Verdict::Unknown);
        assert!(matches!(verdict(Fault::stopping()), Verdict::Busy { .. }));
    }

    #[test]
    fn a_broken_connection_leaves_the_outcome_unknown() {
        assert_eq!(judge(&Status::unknown("error reading a body")).0, Verdict::Unknown);
        assert_eq!(judge(&Status::unimplemented("no such service")).0, Verdict::Answered);
    }
}
