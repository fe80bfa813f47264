//! The World: a simulator of whole DTask clusters that finds bugs before users do and hands them
//! over as seeds. docs/simulation.md says which faults it knows and how to repeat a seed.

pub mod check;
#[cfg(not(madsim))]
pub mod cli;
#[cfg(not(madsim))]
pub mod mutants;
#[cfg(not(madsim))]
pub mod run;
pub mod world;
