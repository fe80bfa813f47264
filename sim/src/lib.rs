//! The World: a simulator of whole DTask clusters that finds bugs before users do and hands them
//! over as seeds. docs/simulation.md says which faults it knows and how to repeat a seed.
//!
//! Under `--cfg madsim` the module `shells` runs the unchanged shells of the runtime as a cluster.

pub mod check;
#[cfg(not(madsim))]
pub mod cli;
#[cfg(not(madsim))]
pub mod mutants;
#[cfg(not(madsim))]
pub mod run;
#[cfg(madsim)]
pub mod shells;
pub mod world;
