//! The cursor row in words: whose database this is (P9.2).

use dtask_core::id::ClusterId;

use super::writer::WriteError;

/// As `/v1/cluster` shows it.
pub(super) fn cluster_text(cluster: ClusterId) -> String {
    format!("{:016x}", cluster.0)
}

/// The cluster that [`cluster_text`] wrote down.
pub(super) fn read_cluster(text: &str) -> Option<ClusterId> {
    u64::from_str_radix(text, 16).ok().map(ClusterId)
}

/// Refuses a database of another cluster.
pub(super) fn check_cluster(found: &str, ours: ClusterId) -> Result<(), WriteError> {
    if found == cluster_text(ours) {
        return Ok(());
    }
    let found = read_cluster(found).map_or(0, |cluster| cluster.0);
    Err(WriteError::ForeignCluster { found, ours: ours.0 })
}

/// Of a database that is claimed: above zero and below 2^53, as every number that users see.
pub(super) fn fresh_epoch() -> u64 {
    (uuid::Uuid::new_v4().as_u128() as u64 >> 11).max(1)
}
