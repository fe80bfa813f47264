//! Every command of the README's tour runs as printed, against `dtask dev`; then a restart finds
//! what was waiting.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dtask_tests::cluster::{binary, dtask};
use dtask_tests::root;

/// The lines after `$ ` in the README's console blocks, but for the two commands themselves.
fn tour() -> Result<Vec<String>> {
    let readme = std::fs::read_to_string(root().join("README.md"))?;
    Ok(readme
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .filter(|line| !line.starts_with("cargo "))
        .map(str::to_owned)
        .collect())
}

/// `dtask dev`, interrupted when dropped.
struct Dev {
    child: Child,
    said: std::sync::mpsc::Receiver<String>,
}

impl Dev {
    fn start(folder: &std::path::Path) -> Result<Self> {
        let mut child = dtask()
            .arg("dev")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let (sender, said) = std::sync::mpsc::channel();
        let out = BufReader::new(child.stdout.take().context("a pipe")?);
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                println!("dev: {line}");
                // The test may have stopped listening; the pipe is read to its end all the same.
                let _ = sender.send(line);
            }
        });
        Ok(Self { child, said })
    }

    fn until(&self, word: &str, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        while let Ok(line) = self.said.recv_timeout(deadline - Instant::now().min(deadline)) {
            if line.contains(word) {
                return Ok(());
            }
        }
        anyhow::bail!("dtask dev did not say `{word}` within {within:?}")
    }

    fn interrupt(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "Ctrl-C ended dtask dev with {status}");
        Ok(begin.elapsed())
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn shell(line: &str) -> Result<std::process::Output> {
    let folder = binary("dtask").parent().context("a folder")?.display().to_string();
    let path = format!("{folder}:{}", std::env::var("PATH")?);
    let output = Command::new("sh").args(["-c", line]).env("PATH", path).output()?;
    println!("$ {line}\n{}", String::from_utf8_lossy(&output.stdout));
    Ok(output)
}

#[test]
fn every_command_of_the_readme_runs_as_printed() -> Result<()> {
    let lines = tour()?;
    ensure!(lines.len() > 15, "the tour has only {} commands", lines.len());
    let folder = tempfile::tempdir()?;
    let mut dev = Dev::start(folder.path())?;
    dev.until("7180", Duration::from_secs(20))?;
    for line in &lines {
        let output = shell(line)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{line}` ended with {}: {said}", output.status);
    }
    ensure!(shell("dtask submit --id later --in 1h -- date")?.status.success());
    let took = dev.interrupt()?;
    println!("Ctrl-C to the end: {} ms", took.as_millis());
    ensure!(took < Duration::from_secs(10), "a clean stop took {took:?}");

    let mut dev = Dev::start(folder.path())?;
    dev.until("7180", Duration::from_secs(20))?;
    let listed = shell("dtask task list -o json")?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    ensure!(listed.contains("\"later\""), "the restart lost a waiting task: {listed}");
    let greet = shell("dtask task get greet -o json")?;
    let greet = String::from_utf8_lossy(&greet.stdout).into_owned();
    ensure!(greet.contains("\"succeeded\""), "the restart lost a finished task: {greet}");
    dev.interrupt()?;
    Ok(())
}
