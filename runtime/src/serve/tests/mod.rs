//! The host on a machine of the tests' own; whole clusters in one process over loopback.

mod cluster;
mod dev;
mod host;
mod nodes;
mod reruns;
mod surface;
