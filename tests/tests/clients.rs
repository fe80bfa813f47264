//! Clients in other languages, written from the .proto files alone, against a cluster of real
//! processes: Python submits, waits, lists and works as a worker, and asks for health and by
//! reflection; JavaScript submits and waits.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use dtask_tests::cluster::{Cluster, dtask};
use dtask_tests::root;

/// Runs a command to its end and shows what it said.
fn runs(command: &mut Command) -> Result<()> {
    let line = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {line}"))?;
    let (said, cried) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("$ {line}\n{said}");
    ensure!(output.status.success(), "{line} ended with {}:\n{cried}", output.status);
    Ok(())
}

fn cluster() -> Result<Cluster> {
    let mut cluster = Cluster::new(3)?;
    cluster.start_all()?;
    cluster.start_worker("rust", 4)?;
    // Our own client waits for a leader; from then on every node answers.
    let mut first = dtask();
    runs(first.args(["run", "--server", &cluster.servers(), "--", "true"]))?;
    for node in 1..=cluster.len() {
        let servers = address(&cluster, node);
        runs(dtask().args(["run", "--server", &servers, "--", "true"]))?;
    }
    Ok(cluster)
}

fn address(cluster: &Cluster, node: usize) -> String {
    cluster.grpc(node).replace("http://", "")
}

/// Where stubs and packages lie between runs: fetched once.
fn kept(language: &str) -> Result<std::path::PathBuf> {
    let folder = root().join("target/clients").join(language);
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn sources(language: &str) -> std::path::PathBuf {
    root().join("tests/clients").join(language)
}

#[test]
fn python_client_and_worker_need_nothing_but_the_proto_files() -> Result<()> {
    let (folder, sources) = (kept("python")?, sources("python"));
    let proto = root().join("proto");
    runs(Command::new("sh").arg(sources.join("generate.sh")).arg(proto).arg(&folder))?;
    let cluster = cluster()?;
    // One of these leads; the others forward writes, and tell the worker where to go.
    for node in 1..=3 {
        runs(
            Command::new(folder.join("venv/bin/python"))
                .arg(sources.join("client.py"))
                .arg(address(&cluster, node))
                .env("PYTHONPATH", folder.join("stubs"))
                .env("PYTHONDONTWRITEBYTECODE", "1"),
        )?;
    }
    Ok(())
}

#[test]
fn javascript_client_needs_nothing_but_the_proto_files() -> Result<()> {
    let (folder, sources) = (kept("javascript")?, sources("javascript"));
    for file in ["package.json", "client.js"] {
        std::fs::copy(sources.join(file), folder.join(file))?;
    }
    let quiet = ["install", "--silent", "--no-audit", "--no-fund"];
    runs(Command::new("npm").args(quiet).current_dir(&folder))?;
    let cluster = cluster()?;
    for node in 1..=3 {
        runs(
            Command::new("node")
                .arg("client.js")
                .args([root().join("proto").as_path(), Path::new(&address(&cluster, node))])
                .current_dir(&folder),
        )?;
    }
    Ok(())
}
