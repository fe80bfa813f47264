//! What a scheduler node is told at its start, and what can be wrong with that.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::PathBuf;

use dtask_core::id::NodeId;

/// Where a node listens.
#[derive(Debug)]
pub enum Listen {
    /// At this `host:port`; port 0 takes any free one.
    Address(String),
    /// At a socket that is bound already.
    Bound(TcpListener),
}

/// Which history database a node uses when it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryChoice {
    /// An SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database.
    #[cfg(not(madsim))]
    Postgres(crate::history::PostgresUrl),
    /// None: finished tasks are known for as long as they are in memory.
    None,
}

/// One scheduler node.
#[derive(Debug)]
pub struct ServeConfig {
    /// Its id, not zero.
    pub id: NodeId,
    /// Its directory; made if it is missing.
    pub data: PathBuf,
    /// Every voter, itself too, with its gRPC `host:port`.
    pub peers: Vec<(NodeId, String)>,
    /// For gRPC: clients, workers and the other nodes.
    pub grpc: Listen,
    /// For HTTP.
    pub http: Listen,
    /// Where others reach its gRPC; `None` means what `peers` says of it, else where it listens.
    pub advertise_grpc: Option<String>,
    /// Where others reach its HTTP; `None` means where it listens.
    pub advertise_http: Option<String>,
    /// Its history database.
    pub history: HistoryChoice,
    /// What may wait in memory for it, in bytes.
    pub outbox_bytes_max: u64,
    /// Listening beyond this machine is allowed although there is neither TLS nor a token.
    pub insecure: bool,
    /// The smallest log that is worth a snapshot, in bytes; `None` means the default of the core.
    pub snapshot_log_bytes_min: Option<u64>,
}

/// Why a node does not start, or stopped by itself. One line, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The options contradict themselves.
    #[error("{option}: {detail}")]
    Option {
        /// Which option.
        option: &'static str,
        /// What is wrong, and what to write instead.
        detail: String,
    },
    /// The data directory cannot be used.
    #[error("{0}")]
    Data(String),
    /// A port cannot be had.
    #[error("{option} {address}: {source}{}", remedy(.source))]
    Port {
        /// Which option names it.
        option: &'static str,
        /// The address.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The history database's options are wrong.
    #[error("--history: {0}")]
    History(String),
    /// The node cannot go on.
    #[error("{0}")]
    Halted(String),
    /// The disk could not persist: a crash, by design (P4.4).
    #[error(
        "the log under {data} cannot be written; free its disk or replace it, then start again"
    )]
    Disk {
        /// The data directory.
        data: PathBuf,
    },
    /// A thread or a runtime could not be started.
    #[error("cannot start: {0}")]
    Start(#[from] std::io::Error),
}

impl ServeError {
    /// The exit code of interface.md: 2 for wrong options, 4 for everything that refuses to run.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Option { .. } | Self::History(_) => 2,
            Self::Data(_) | Self::Port { .. } | Self::Halted(_) | Self::Disk { .. } => 4,
            Self::Start(_) => 1,
        }
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => " (another process listens there; choose another port)",
        std::io::ErrorKind::PermissionDenied => " (ports below 1024 need a privilege)",
        _ => "",
    }
}

impl ServeConfig {
    /// Checks what can be checked before anything is touched.
    pub(super) fn check(&self) -> Result<(), ServeError> {
        if self.id.0 == 0 {
            return Err(option("--id", "0 names no node; ids start at 1"));
        }
        let mut ids: Vec<NodeId> = self.peers.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(option("--peer", format!("node {} is named twice", pair[0])));
        }
        if ids.first() == Some(&NodeId(0)) {
            return Err(option("--peer", "0 names no node; ids start at 1"));
        }
        if !ids.contains(&self.id) {
            let id = self.id;
            let detail = format!("every voter is named, this node too: add --peer {id}=HOST:PORT");
            return Err(option("--peer", detail));
        }
        if let Some((id, address)) = self.peers.iter().find(|(_, a)| !has_port(a)) {
            return Err(option("--peer", format!("{id}={address}: write HOST:PORT")));
        }
        self.grpc.check("--grpc", self.insecure)?;
        self.http.check("--http", self.insecure)
    }
}

impl Listen {
    /// Secure by default (design.md §8): beyond loopback only when the operator says so.
    fn check(&self, option_name: &'static str, insecure: bool) -> Result<(), ServeError> {
        let addresses: Vec<SocketAddr> = match self {
            Self::Bound(listener) => listener.local_addr().into_iter().collect(),
            Self::Address(address) => match address.to_socket_addrs() {
                Ok(found) => found.collect(),
                Err(source) => {
                    let detail = format!("{address}: {source}; write HOST:PORT");
                    return Err(option(option_name, detail));
                }
            },
        };
        match addresses.iter().find(|address| !address.ip().is_loopback()) {
            Some(address) if !insecure => Err(option(
                option_name,
                format!(
                    "{address} can be reached from other machines, and there is neither TLS nor a \
                     token yet: listen on 127.0.0.1, or say --insecure in a network you trust"
                ),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Binds, if it is not bound.
    pub(super) fn bind(
        self,
        option: &'static str,
    ) -> Result<(TcpListener, SocketAddr), ServeError> {
        let (listener, address) = match self {
            Self::Bound(listener) => (Ok(listener), String::new()),
            Self::Address(address) => (TcpListener::bind(&address), address),
        };
        let port = |source| ServeError::Port { option, address: address.clone(), source };
        let listener = listener.map_err(port)?;
        let bound = listener.local_addr().map_err(port)?;
        listener.set_nonblocking(true).map_err(port)?;
        Ok((listener, bound))
    }
}

fn option(option: &'static str, detail: impl Into<String>) -> ServeError {
    ServeError::Option { option, detail: detail.into() }
}

fn has_port(address: &str) -> bool {
    let port = address.rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
    matches!(port, Some((false, Ok(_))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ServeConfig {
        ServeConfig {
            id: NodeId(1),
            data: PathBuf::from("data"),
            peers: vec![(NodeId(1), "127.0.0.1:7100".to_owned())],
            grpc: Listen::Address("127.0.0.1:7100".to_owned()),
            http: Listen::Address("127.0.0.1:7180".to_owned()),
            advertise_grpc: None,
            advertise_http: None,
            history: HistoryChoice::None,
            outbox_bytes_max: dtask_core::limits::OUTBOX_BYTES_MAX,
            insecure: false,
            snapshot_log_bytes_min: None,
        }
    }

    #[track_caller]
    fn refused(config: &ServeConfig, words: &[&str]) {
        let said = config.check().expect_err("it is wrong").to_string();
        for word in words {
            assert!(said.contains(word), "{said:?} does not say {word:?}");
        }
    }

    #[test]
    fn address_beyond_this_machine_needs_insecure() {
        let mut config = config();
        config.http = Listen::Address("0.0.0.0:7180".to_owned());
        refused(&config, &["--http", "0.0.0.0:7180", "--insecure"]);
        config.insecure = true;
        assert!(config.check().is_ok());
    }

    #[test]
    fn peers_must_name_the_node_itself_once() {
        let mut config = config();
        config.peers[0].0 = NodeId(2);
        refused(&config, &["--peer 1=HOST:PORT"]);
        config.peers = vec![(NodeId(1), "a:1".to_owned()), (NodeId(1), "b:1".to_owned())];
        refused(&config, &["--peer", "node 1 is named twice"]);
        config.peers = vec![(NodeId(1), "localhost".to_owned())];
        refused(&config, &["--peer", "1=localhost", "HOST:PORT"]);
    }

    #[test]
    fn taken_port_is_named_with_its_option() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("it is bound").to_string();
        let error = Listen::Address(address.clone()).bind("--grpc").expect_err("it is taken");
        let said = error.to_string();
        assert!(said.contains(&format!("--grpc {address}")) && said.contains("another"), "{said}");
    }
}
