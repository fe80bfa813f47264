//! Consensus on three nodes in one thread: delays, losses, crashes and slow disks, all drawn from
//! a seed.

mod cluster;
mod elections;
mod formation;
mod member;
mod persistence;
mod snapshots;
mod sole;
mod traces;
