//! A real PostgreSQL server in a directory of its own, on a loopback port: started, stopped in
//! each of its ways, killed, frozen, dumped and restored by a test.
//!
//! The server refuses to run as root, so root starts it as another user. A shell stands between
//! the test and the server and stops it when the test's process is gone, however it ended.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::process::{alive, parent, run, run_for_bytes};

/// The server's one user, who owns everything in it.
const USER: &str = "dtask";
/// Odd enough to be found wherever it leaks, with a character that a URL must escape.
pub const PASSWORD: &str = "s3cret/word";
/// The password as a URL writes it.
const PASSWORD_IN_URL: &str = "s3cret%2Fword";

/// A database that is restored and not yet in its place.
pub const RESTORED: &str = "being_restored";
/// What the database was whose place a restored one has taken.
pub const UNDONE: &str = "undone";

/// How long the server may take to start, to stop, or to recover.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts what its arguments say, prints its process id, and ends with it. When standard input
/// ends, which it does with the process that holds the other end, it stops the server and removes
/// the files that nobody else will.
const GUARDIAN: &str = r#"
trap '' INT
exec 3<&0
"$@" >>"$FOLDER/log" 2>&1 3<&- &
server=$!
echo $server
exec >/dev/null 2>&1
(cat <&3; touch "$FOLDER/orphaned"; kill -QUIT $server) &
watcher=$!
wait $server
kill $watcher
if [ -e "$FOLDER/orphaned" ]; then rm -rf "$FOLDER"; fi
"#;

/// How a server is told to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It waits for its clients to leave.
    Smart,
    /// It ends its clients' transactions and writes everything down.
    Fast,
    /// It recovers at its next start.
    Immediate,
}

/// A server and its files; both are gone when it is dropped.
#[derive(Debug)]
pub struct Postgres {
    folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
    options: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    guardian: Child,
    server: Pid,
}

impl Postgres {
    /// Makes an empty server, starts it and waits until it answers.
    ///
    /// # Errors
    /// PostgreSQL is not installed (the message says what to install), or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// As [`Postgres::start`], with settings (`name=value`) of the server.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with(options: &[&str]) -> Result<Self> {
        let mut server = Self::new(options)?;
        server.begin()?;
        Ok(server)
    }

    /// As [`Postgres::start`], with a certificate and its key (PEM) for those who ask for TLS.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with_tls(certificate: &Path, key: &Path) -> Result<Self> {
        let mut server = Self::new(&["ssl=on"])?;
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = server.data().join(name);
            std::fs::copy(from, &to)?;
            // The server takes no key that others may read.
            std::fs::set_permissions(&to, Permissions::from_mode(0o600))?;
            if let Some((uid, gid)) = other_user()? {
                chown(&to, Some(uid), Some(gid))?;
            }
        }
        server.begin()?;
        Ok(server)
    }

    fn new(options: &[&str]) -> Result<Self> {
        let bin = programs()?;
        let folder = tempfile::Builder::new().prefix("dtask-postgres").tempdir()?;
        // Other programs of the test read the log.
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        let options = options.iter().map(|&option| option.to_owned()).collect();
        let server = Self { folder, bin, port: free_port()?, options, running: None };
        server.init()?;
        Ok(server)
    }

    fn begin(&mut self) -> Result<()> {
        self.start_again()?;
        self.psql("postgres", "CREATE DATABASE dtask").map(drop)
    }

    /// The server that the tests of this process share, each with a database of its own, started
    /// by the first of them. It ends with the process.
    ///
    /// # Errors
    /// As [`Postgres::start`], told to every test.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Postgres, String>> = OnceLock::new();
        let start = || Self::start().map_err(|error| format!("{error:#}"));
        SHARED.get_or_init(start).as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn init(&self) -> Result<()> {
        let password = self.folder.path().join("password");
        std::fs::write(&password, PASSWORD)?;
        File::create(self.log_path())?;
        std::fs::create_dir(self.data())?;
        if let Some((uid, gid)) = other_user()? {
            for path in [self.folder.path(), &password, &self.log_path(), &self.data()] {
                chown(path, Some(uid), Some(gid))?;
            }
        }
        let mut init = self.program("initdb")?;
        init.arg("--pgdata").arg(self.data());
        init.args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8"]);
        init.args(["--locale", "C", "--no-sync"]).arg("--pwfile").arg(&password);
        run(init).map(drop)
    }

    /// Starts a server that was stopped or killed, on the same files and port.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.running.is_none(), "it runs");
        let mut words = vec![self.bin.join("postgres").display().to_string()];
        words.extend(["-D".to_owned(), self.data().display().to_string()]);
        let port = format!("port={}", self.port);
        let own = ["listen_addresses=127.0.0.1", "unix_socket_directories=", &port];
        for option in own.into_iter().chain(self.options.iter().map(String::as_str)) {
            words.extend(["-c".to_owned(), option.to_owned()]);
        }
        let mut guardian = as_other_user(Command::new("/bin/sh"))?;
        guardian.args(["-c", GUARDIAN, "guardian"]).args(words);
        guardian.env("FOLDER", self.folder.path()).process_group(0);
        guardian.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir("/");
        let mut guardian = guardian.spawn().context("cannot start /bin/sh")?;
        let mut line = String::new();
        let said = guardian.stdout.take().context("its output is a pipe")?;
        BufReader::new(said).read_line(&mut line)?;
        let server = Pid::from_raw(line.trim().parse()?).context("a process id")?;
        self.running = Some(Running { guardian, server });
        self.until_it_answers()
    }

    fn until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let running = self.running.as_mut().context("it was started")?;
            if let Some(status) = running.guardian.try_wait()? {
                self.running = None;
                bail!("the server ended with {status}\n{}", self.log());
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok()
                && self.psql("postgres", "SELECT 1").is_ok()
            {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it does not answer\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops the server and waits until it is gone.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub fn stop(&mut self, mode: Stop) -> Result<()> {
        let running = self.running.as_mut().context("it does not run")?;
        let signal = match mode {
            Stop::Smart => Signal::TERM,
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        kill_process(running.server, signal)?;
        self.until_it_is_gone()
    }

    /// kill -9 of the server and of all its processes, and waits until they are gone.
    ///
    /// # Errors
    /// It does not run.
    pub fn kill(&mut self) -> Result<()> {
        let running = self.running.as_ref().context("it does not run")?;
        // Stopped first, so that it cannot start another process meanwhile.
        kill_process(running.server, Signal::STOP)?;
        let all = self.processes()?;
        for pid in &all {
            // One that ended by itself is gone as well.
            let _ = kill_process(*pid, Signal::KILL);
        }
        self.until_it_is_gone()?;
        let deadline = Instant::now() + PATIENCE;
        while all.iter().any(|pid| alive(*pid)) {
            ensure!(Instant::now() < deadline, "a process of the server survives kill -9");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn until_it_is_gone(&mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            // The guardian ends with the server.
            if running.guardian.try_wait()?.is_some() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.running = Some(running);
                bail!("it does not stop\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops the server and its processes in their tracks (SIGSTOP): connections stay open and
    /// nothing is answered.
    ///
    /// # Errors
    /// It does not run.
    pub fn freeze(&self) -> Result<()> {
        self.signal_all(Signal::STOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// It does not run.
    pub fn thaw(&self) -> Result<()> {
        self.signal_all(Signal::CONT)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        for pid in self.processes()? {
            let _ = kill_process(pid, signal);
        }
        Ok(())
    }

    /// The server and the processes that it started.
    fn processes(&self) -> Result<Vec<Pid>> {
        let server = self.running.as_ref().context("it does not run")?.server;
        let mut all = vec![server];
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw)
            else {
                continue;
            };
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            if parent(&stat) == Some(server.as_raw_nonzero().get()) {
                all.push(pid);
            }
        }
        Ok(all)
    }

    /// CPU time that the server and its living processes have used.
    ///
    /// # Errors
    /// It does not run.
    pub fn cpu(&self) -> Result<Duration> {
        let ticks_per_s = rustix::param::clock_ticks_per_second();
        let mut ticks = 0;
        for pid in self.processes()? {
            let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
            let stat = std::fs::read_to_string(path).unwrap_or_default();
            let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
            // utime and stime; those of ended children are counted with their parent.
            let used = after_name.split_whitespace().skip(11).take(4);
            ticks += used.filter_map(|word| word.parse::<u64>().ok()).sum::<u64>();
        }
        Ok(Duration::from_millis(ticks * 1_000 / ticks_per_s))
    }

    /// Whether it was started and neither stopped nor killed.
    pub const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// The port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The URL of its database `dtask`, password included.
    pub fn url(&self) -> String {
        self.url_of("dtask", self.port)
    }

    /// The URL of a database at another port, as of a proxy that leads here.
    pub fn url_of(&self, database: &str, port: u16) -> String {
        format!("postgres://{USER}:{PASSWORD_IN_URL}@127.0.0.1:{port}/{database}")
    }

    /// Makes a further empty database and returns its URL.
    ///
    /// # Errors
    /// The server does not answer, or has it already.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url_of(name, self.port))
    }

    /// Runs SQL in a database; the rows, one a line, columns separated by `|`.
    ///
    /// # Errors
    /// What psql says.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = self.client("psql")?;
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
        psql.args(["--set", "ON_ERROR_STOP=1", "--dbname", database, "--command", sql]);
        Ok(run(psql)?.trim_end().to_owned())
    }

    /// Writes a database to a file, in PostgreSQL's own archive format.
    ///
    /// # Errors
    /// What pg_dump says.
    pub fn dump(&self, database: &str, file: &Path) -> Result<()> {
        let mut dump = self.client("pg_dump")?;
        dump.args(["--format", "custom", "--dbname", database]);
        std::fs::write(file, run_for_bytes(dump)?)?;
        Ok(())
    }

    /// Replaces a database by what [`Postgres::dump`] wrote: clients are thrown out, as an
    /// operator would.
    ///
    /// # Errors
    /// What psql or pg_restore says.
    pub fn restore(&self, database: &str, file: &Path) -> Result<()> {
        self.restore_beside(file)?;
        self.put_in_place(database)
    }

    /// Makes the database [`RESTORED`] of what [`Postgres::dump`] wrote. Nobody claims it half
    /// restored: it has another name until it is whole.
    ///
    /// # Errors
    /// What psql or pg_restore says.
    pub fn restore_beside(&self, file: &Path) -> Result<()> {
        self.psql("postgres", &format!("CREATE DATABASE {RESTORED}"))?;
        let mut restore = self.client("pg_restore")?;
        restore.args(["--exit-on-error", "--dbname", RESTORED]);
        restore.stdin(File::open(file)?);
        run(restore).map(drop)
    }

    /// Throws out the clients of a database, calls it [`UNDONE`], and puts [`RESTORED`] in its
    /// place.
    ///
    /// # Errors
    /// What psql says.
    pub fn put_in_place(&self, database: &str) -> Result<()> {
        let steps = [
            format!("ALTER DATABASE {database} ALLOW_CONNECTIONS false"),
            format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            ),
            format!("ALTER DATABASE {database} RENAME TO {UNDONE}"),
            format!("ALTER DATABASE {RESTORED} RENAME TO {database}"),
            format!("ALTER DATABASE {UNDONE} ALLOW_CONNECTIONS true"),
        ];
        steps.iter().try_for_each(|sql| self.psql("postgres", sql).map(drop))
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn program(&self, name: &str) -> Result<Command> {
        let mut command = as_other_user(Command::new(self.bin.join(name)))?;
        // A folder that every user may enter.
        command.current_dir("/");
        Ok(command)
    }

    fn client(&self, name: &str) -> Result<Command> {
        let mut command = self.program(name)?;
        command.args(["--host", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--username", USER, "--no-password"]).env("PGPASSWORD", PASSWORD);
        command.env("PGCONNECT_TIMEOUT", "10").stdin(Stdio::null());
        Ok(command)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.kill();
        }
    }
}

/// Where the newest installed server's programs lie.
fn programs() -> Result<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<_> = packaged.map(|entry| entry.path().join("bin")).collect();
    packaged.sort_by_key(|bin| {
        let version = bin.parent().and_then(Path::file_name).and_then(|name| name.to_str());
        version.and_then(|name| name.parse::<u32>().ok())
    });
    let in_path = std::env::var_os("PATH").unwrap_or_default();
    let places = packaged.into_iter().rev().chain(std::env::split_paths(&in_path));
    places.into_iter().find(|bin| bin.join("initdb").exists()).context(
        "PostgreSQL's server is not installed (no initdb in /usr/lib/postgresql/*/bin nor in \
         PATH): `apt-get install postgresql` on Debian, `dnf install postgresql-server` on \
         Fedora, `brew install postgresql` on macOS",
    )
}

/// Whom root starts the server as: `postgres` where there is one, else `nobody`.
fn other_user() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        users.lines().find_map(|line| {
            let mut words = line.split(':');
            (words.next() == Some(name)).then_some(())?;
            let uid = words.nth(1)?.parse().ok()?;
            Some((uid, words.next()?.parse().ok()?))
        })
    };
    let other = find("postgres").or_else(|| find("nobody"));
    Ok(Some(other.context("neither `postgres` nor `nobody` is a user of this machine")?))
}

fn as_other_user(mut command: Command) -> Result<Command> {
    if let Some((uid, gid)) = other_user()? {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
