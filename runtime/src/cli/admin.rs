//! `dtask worker …` and `dtask cluster …`.

use clap::Subcommand;
use dtask_core::client::Repeat;
use dtask_proto::v1;

use super::calls::Calls;
use super::fail::{Failure, code};
use super::out::Out;
use super::tables;

/// `dtask worker …`
#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// List the workers that the leader knows
    #[command(after_help = "Example:\n  dtask worker list -o json")]
    List,
}

/// `dtask cluster …`
#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show nodes, leader and progress; exit code 4 when degraded
    #[command(
        after_help = "Example:\n  dtask cluster status --server 127.0.0.1:7101,127.0.0.1:7102"
    )]
    Status,
}

impl WorkerCommand {
    /// Runs it.
    ///
    /// # Errors
    /// What the cluster refused.
    pub(crate) async fn run(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        let Self::List = self;
        let listed = calls
            .call(Repeat::Read, async |mut to| {
                to.workers.list_workers(v1::ListWorkersRequest {}).await
            })
            .await?;
        out.show(&listed, |listed| tables::workers(&listed.workers))
    }
}

impl ClusterCommand {
    /// Runs it.
    ///
    /// # Errors
    /// Nobody answers; or somebody does, and says that the cluster is degraded.
    pub(crate) async fn run(&self, calls: &Calls, out: &Out) -> Result<(), Failure> {
        let Self::Status = self;
        let mut cluster = status(calls).await?;
        // Only the leader knows who is alive: ask it, if it can be reached.
        if cluster.leader.is_some_and(|leader| leader != cluster.node_id)
            && let Some(address) = leader_address(&cluster)
            && let Ok(told) = status(&Calls::new(&[address])).await
        {
            cluster = told;
        }
        out.show(&cluster, tables::cluster)?;
        match degraded(&cluster) {
            Some(why) => {
                Err(Failure::new(code::REFUSED, format!("the cluster is degraded: {why}")))
            }
            None => Ok(()),
        }
    }
}

async fn status(calls: &Calls) -> Result<v1::Cluster, Failure> {
    calls
        .call(Repeat::Read, async |mut to| to.cluster.get_cluster(v1::GetClusterRequest {}).await)
        .await
}

fn leader_address(cluster: &v1::Cluster) -> Option<String> {
    let leader = cluster.nodes.iter().find(|node| Some(node.id) == cluster.leader)?;
    Some(leader.grpc.clone()).filter(|address| !address.is_empty())
}

/// Why a cluster is not well.
fn degraded(cluster: &v1::Cluster) -> Option<String> {
    if cluster.leader.is_none() {
        return Some("there is no leader".to_owned());
    }
    let dead: Vec<_> = cluster
        .nodes
        .iter()
        .filter(|node| node.alive == Some(false))
        .map(|node| node.id.to_string())
        .collect();
    if dead.is_empty() { None } else { Some(format!("node {} is silent", dead.join(", "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster(leader: Option<u64>, alive: Option<bool>) -> v1::Cluster {
        let node = |id, alive| v1::Node { id, alive, ..v1::Node::default() };
        let nodes = vec![node(1, Some(true)), node(2, alive)];
        v1::Cluster { leader, nodes, ..v1::Cluster::default() }
    }

    #[test]
    fn a_cluster_without_a_leader_or_with_a_silent_node_is_degraded() {
        assert_eq!(degraded(&cluster(Some(1), Some(true))), None);
        assert_eq!(degraded(&cluster(Some(1), None)), None);
        assert!(degraded(&cluster(None, Some(true))).is_some());
        assert_eq!(degraded(&cluster(Some(1), Some(false))).as_deref(), Some("node 2 is silent"));
    }
}
