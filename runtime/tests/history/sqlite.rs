//! The contract on a real SQLite file.

use std::path::PathBuf;

use dtask_runtime::history::{SqliteReader, SqliteWriter};
use dtask_runtime::serve::ports::HistoryRead as _;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use crate::contract::Backend;

crate::every_fact!(File);

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    async fn stranger(&self) -> SqliteConnection {
        let url = format!("sqlite:{}", self.path.display());
        SqliteConnection::connect(&url).await.expect("a file")
    }
}

impl Backend for File {
    type Writer = SqliteWriter;
    type Reader = SqliteReader;

    fn empty() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("history.db");
        Self { _dir: dir, path }
    }

    fn writer(&self) -> SqliteWriter {
        SqliteWriter::new(self.path.clone())
    }

    fn reader(&self) -> SqliteReader {
        SqliteReader::new(&self.path).expect("a thread")
    }

    async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&mut self.stranger().await).await.expect("executed");
    }

    async fn numbers(&self, sql: &'static str) -> Vec<i64> {
        let row = sqlx::query(sql).fetch_one(&mut self.stranger().await).await.expect("a row");
        (0..row.len()).map(|column| row.get(column)).collect()
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_away_and_not_empty() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let reader = SqliteReader::new(&dir.path().join("none.db")).expect("a thread");
    let away = reader.task("x").await.expect_err("no file");
    assert!(away.to_string().starts_with("the history database cannot be read"), "{away}");
}
