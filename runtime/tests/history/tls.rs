//! History over TLS, with a real server and certificates of the test's own: what the URL asks for is
//! what happens, and nothing goes out in the clear that should not.

use std::path::Path;
use std::process::Command;

use dtask_runtime::history::{
    PostgresReader, PostgresUrl, PostgresWriter, WriteError, Writer as _,
};
use dtask_runtime::serve::ports::HistoryRead as _;
use dtask_tests::postgres::Postgres;

use crate::contract::CLUSTER;

/// An authority, a server's certificate for `localhost` by it, and an authority that nobody asked.
const CERTIFICATES: &str = "
set -e
for ca in ca other; do
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=$ca -keyout $ca.key -out $ca.pem \
        -addext keyUsage=critical,keyCertSign
done
openssl req -newkey rsa:2048 -nodes -subj /CN=localhost -keyout server.key -out server.csr
printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >extensions
openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
    -extfile extensions -out server.pem
";

/// A server with TLS, and the folder of the certificates.
fn encrypted() -> (Postgres, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(folder.path()).output();
    let made = made.expect("a shell");
    let said = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "openssl (install it) ended with {}: {said}", made.status);
    let at = |name: &str| folder.path().join(name);
    let server = Postgres::start_with_tls(&at("server.pem"), &at("server.key")).expect("starts");
    (server, folder)
}

/// The server's URL by a name, with what follows the `?`.
fn url(server: &Postgres, host: &str, words: &str) -> PostgresUrl {
    let url = format!("{}?{words}", server.url().replace("127.0.0.1", host));
    url.parse().expect("a URL")
}

fn trusting(mode: &str, folder: &Path, authority: &str) -> String {
    format!("sslmode={mode}&sslrootcert={}", folder.join(authority).display())
}

/// What writer and reader say of a server that they must not talk to.
async fn refused(url: PostgresUrl) -> String {
    let error = PostgresWriter::new(url.clone()).open(CLUSTER).await.expect_err("refused");
    assert!(matches!(error, WriteError::Away(_)), "{error}");
    let reader = PostgresReader::new(url).expect("a thread");
    reader.task("x").await.expect_err("refused");
    error.to_string()
}

#[tokio::test]
async fn a_verified_server_is_written_and_read_over_tls() {
    let (server, folder) = encrypted();
    let full = trusting("verify-full", folder.path(), "ca.pem");
    for (host, words) in [
        ("localhost", full.as_str()),
        ("127.0.0.1", &trusting("verify-ca", folder.path(), "ca.pem")),
        ("127.0.0.1", "sslmode=require"),
    ] {
        let url = url(&server, host, words);
        let mut writer = PostgresWriter::new(url.clone());
        writer.open(CLUSTER).await.unwrap_or_else(|error| panic!("{words}: {error}"));
        let reader = PostgresReader::new(url).expect("a thread");
        assert_eq!(reader.task("nobody").await, Ok(None), "{words}");
        let clear = "SELECT bool_and(ssl), count(*) FROM pg_stat_ssl JOIN pg_stat_activity \
                     USING (pid) WHERE application_name = 'dtask'";
        let seen = server.psql("postgres", clear).expect("answers");
        assert_eq!(seen, "t|2", "{words}: the writer's connection and the reader's are encrypted");
        drop((writer, reader));
        let gone = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity \
                    WHERE application_name = 'dtask'";
        server.psql("postgres", gone).expect("answers");
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_is_not_told_the_password() {
    let (server, folder) = encrypted();
    for (host, words, why) in [
        ("127.0.0.1", trusting("verify-full", folder.path(), "ca.pem"), "certificate"),
        ("localhost", trusting("verify-full", folder.path(), "other.pem"), "certificate"),
        ("localhost", trusting("verify-ca", folder.path(), "other.pem"), "certificate"),
        ("localhost", "sslmode=verify-full".to_owned(), "certificate"),
    ] {
        let said = refused(url(&server, host, &words)).await;
        assert!(said.contains(why), "{host}, {words}: {said}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_refused_where_the_url_demands_it() {
    let server = Postgres::start().expect("PostgreSQL starts");
    for words in ["sslmode=require", "sslmode=verify-full"] {
        let said = refused(url(&server, "127.0.0.1", words)).await;
        assert!(said.to_lowercase().contains("tls"), "{words}: {said}");
    }
    // Without a word of it nobody is refused, and nothing is checked.
    let mut writer = PostgresWriter::new(url(&server, "127.0.0.1", "sslmode=prefer"));
    writer.open(CLUSTER).await.expect("opens");
}
