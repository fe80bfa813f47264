//! The command line of the World.

#[cfg(madsim)]
fn main() {}

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    use clap::Parser as _;
    let code = dtask_sim::cli::Cli::parse().run();
    std::process::ExitCode::from(u8::try_from(code).unwrap_or(1))
}
