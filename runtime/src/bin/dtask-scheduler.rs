//! `dtask-scheduler`: `dtask serve`.

#[cfg(not(madsim))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    dtask_runtime::cli::main(dtask_runtime::cli::Program::Scheduler)
}

/// Simulators drive the library.
#[cfg(madsim)]
fn main() {}
