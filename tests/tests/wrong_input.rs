//! What users get wrong: one clear line that names the field and the remedy, the right exit or
//! status code, nothing lost, no panic.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dtask_tests::cluster::{Cluster, dtask};
use serde_json::Value;

/// Runs a command and demands this exit code and these words in its one error line.
fn refused(mut command: Command, code: i32, words: &[&str]) -> Result<()> {
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let shown = format!("{command:?} -> {:?}\n{said}", output.status);
    ensure!(output.status.code() == Some(code), "expected exit code {code}: {shown}");
    ensure!(said.starts_with("error: "), "no error line: {shown}");
    ensure!(!said.contains("panicked") && !said.contains("backtrace"), "a panic: {shown}");
    for word in words {
        ensure!(said.contains(word), "does not say `{word}`: {shown}");
    }
    Ok(())
}

fn words(words: &[&str]) -> Command {
    let mut command = dtask();
    command.args(words);
    command
}

/// Speaks HTTP by hand, so that what is malformed arrives as it is: status, headers and body.
fn raw_http(port: u16, method: &str, path: &str, body: &[u8]) -> Result<(u16, String, Value)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    // A refusal may close the connection before a large body was read: that is its right.
    let _ = stream.write_all(body);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or(Value::Null)))
}

#[test]
fn offline_mistakes_name_the_field() -> Result<()> {
    refused(words(&["cron", "next", "61 * * * *"]), 2, &["minute", "61"])?;
    refused(words(&["cron", "next", "* * *"]), 2, &["field"])?;
    refused(
        words(&["cron", "next", "0 9 * * *", "--timezone", "Europe/Pariss"]),
        2,
        &["Europe/Pariss", "Europe/Paris"],
    )?;
    refused(words(&["submit", "--cron", "0 9 * * 8", "x"]), 2, &["day of week"])?;
    refused(words(&["submit", "--priority", "12", "x"]), 2, &["priority", "9"])?;
    refused(words(&["submit", "--id", "no spaces", "x"]), 2, &["id"])?;
    refused(words(&["submit", "--at", "2030-01-01T00:00:00", "x"]), 2, &["timezone"])?;
    refused(words(&["run", "--cron", "* * * * *", "--", "true"]), 2, &["submit"])?;
    refused(words(&["submit", "--server", "127.0.0.1:1", "x"]), 5, &["127.0.0.1:1"])
}

#[test]
fn a_running_cluster_refuses_clearly() -> Result<()> {
    let mut cluster = Cluster::new(1)?;
    cluster.start_all()?;
    cluster.leader()?;
    let servers = cluster.servers();
    let call = |rest: &[&str]| {
        let mut command = dtask();
        command.args(rest).args(["--server", &servers]);
        command
    };
    ensure!(call(&["submit", "--id", "a", "--payload", "1", "x"]).output()?.status.success());
    ensure!(call(&["submit", "--id", "a", "--payload", "1", "x"]).output()?.status.success());
    refused(call(&["submit", "--id", "a", "--payload", "2", "x"]), 4, &["a"])?;
    refused(call(&["task", "get", "nobody"]), 3, &["nobody"])?;
    refused(call(&["task", "cancel", "nobody"]), 3, &["nobody"])?;
    refused(call(&["task", "wait", "a", "--timeout", "1s"]), 7, &["a"])?;

    let http = cluster.http_port(1);
    let (status, head, body) = raw_http(http, "POST", "/v1/tasks", b"{\"type\": \"x\", }")?;
    ensure!(status == 400 && head.contains("application/problem+json"), "{status} {head} {body}");
    let (status, _, body) = raw_http(http, "POST", "/v1/tasks", b"{\"type\":\"x\",\"prio\":3}")?;
    ensure!(status == 400 && body.to_string().contains("prio"), "{status} {body}");
    let bad = b"{\"type\":\"x\",\"cron_expr\":\"0 25 * * *\"}";
    let (status, _, body) = raw_http(http, "POST", "/v1/tasks", bad)?;
    ensure!(status == 400 && body["reason"] == "CRON_INVALID", "{status} {body}");
    ensure!(body["errors"][0]["field"] == "cron_expr", "{body}");
    let (status, _, body) =
        raw_http(http, "POST", "/v1/tasks", b"{\"id\":\"a\",\"type\":\"x\",\"payload\":3}")?;
    ensure!(status == 409 && body["reason"] == "ID_CONFLICT", "{status} {body}");
    let (status, _, body) = raw_http(http, "GET", "/v1/tasks/nobody", b"")?;
    ensure!(status == 404, "{status} {body}");
    let (status, _, body) = raw_http(http, "GET", "/nowhere", b"")?;
    ensure!(status == 404, "{status} {body}");
    let large = format!("{{\"type\":\"x\",\"payload\":\"{}\"}}", "y".repeat((1 << 20) + 10));
    let (status, _, body) = raw_http(http, "POST", "/v1/tasks", large.as_bytes())?;
    ensure!([400, 413].contains(&status), "{status} {body}");
    ensure!(body["reason"] == "PAYLOAD_TOO_LARGE", "{body}");
    // Nothing was lost, and the cluster still works.
    ensure!(cluster.http(1, "/v1/tasks/a")?["status"] == "ready");
    Ok(())
}

#[test]
fn a_node_refuses_what_is_not_its_own() -> Result<()> {
    let mut cluster = Cluster::new(2)?;
    // Each is a cluster of one: they know nothing of each other.
    cluster.start_alone(1)?;
    cluster.until("node 1 leads", Duration::from_secs(20), |c| {
        Ok(c.http(1, "/v1/cluster").ok().filter(|v| v["leader"] == 1))
    })?;
    // Its directory is open, its port is taken.
    refused(cluster.serve_alone(1, 1), 4, &["node1"])?;
    cluster.kill(1)?;
    // The directory belongs to node 1.
    let output = cluster.serve_alone(2, 1).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains("node 1"), "{said}");
    ensure!(!said.contains("panicked"), "{said}");
    // A taken port is named.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port().to_string();
    let mut command = words(&["serve", "--id", "9", "--http", "127.0.0.1:0"]);
    command
        .args(["--grpc", &format!("127.0.0.1:{port}"), "--peer", &format!("9=127.0.0.1:{port}")])
        .args(["--history", "none", "--data"])
        .arg(cluster.folder().join("node9"));
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && said.contains(&port), "{said}");
    ensure!(!said.contains("panicked"), "{said}");
    Ok(())
}
