//! `dtask.toml`: which keys there are, where they stand, what they say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use crate::api::json::nearest;

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Where it is; `None` when there is none.
    pub path: Option<PathBuf>,
    /// Values by section ("" is the top) and key.
    pub values: BTreeMap<(String, String), Value>,
}

/// What a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its line, from 1.
    pub line: usize,
    /// One text, or the texts of a list.
    pub texts: Vec<String>,
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; 0 when the file could not be read at all.
    pub line: usize,
    /// What is wrong.
    pub detail: String,
    /// What to do about it.
    pub hint: String,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path.display(), self.detail),
            line => write!(f, "{}:{line}: {}", self.path.display(), self.detail),
        }
    }
}

impl std::error::Error for FileError {}

impl File {
    /// Reads a file; `known` lists every section and key that means something.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or has a key that means nothing, with the nearest
    /// known one.
    pub fn read(path: &Path, known: &[(String, String)]) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path).map_err(|error| FileError {
            path: path.to_owned(),
            line: 0,
            detail: format!("cannot be read: {error}"),
            hint: "name another file with --config, or leave it out".to_owned(),
        })?;
        Self::parse(path, &text, known)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// As [`File::read`].
    pub fn parse(path: &Path, text: &str, known: &[(String, String)]) -> Result<Self, FileError> {
        let reader = Reader { path, text, known };
        let table = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            reader.error(at, error.message().replace('\n', ", "), "")
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table.get_ref() {
            let at = key.span().start;
            let name = key.get_ref().as_ref();
            if let DeValue::Table(section) = value.get_ref() {
                reader.section(at, name)?;
                for (key, value) in section {
                    reader.keep(
                        &mut values,
                        name,
                        key.get_ref(),
                        key.span().start,
                        value.get_ref(),
                    )?;
                }
            } else {
                reader.keep(&mut values, "", name, at, value.get_ref())?;
            }
        }
        Ok(Self { path: Some(path.to_owned()), values })
    }
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    known: &'a [(String, String)],
}

impl Reader<'_> {
    fn keep(
        &self,
        values: &mut BTreeMap<(String, String), Value>,
        section: &str,
        key: &str,
        at: usize,
        value: &DeValue<'_>,
    ) -> Result<(), FileError> {
        let keys: Vec<_> =
            self.known.iter().filter(|(s, _)| s == section).map(|(_, k)| k.as_str()).collect();
        if !keys.contains(&key) {
            let place = if section.is_empty() { String::new() } else { format!(" in [{section}]") };
            return Err(self.unknown(at, format!("unknown key `{key}`{place}"), key, &keys));
        }
        let texts = match value {
            DeValue::Array(list) => list
                .iter()
                .map(|value| self.scalar(at, key, value.get_ref()))
                .collect::<Result<_, _>>()?,
            scalar => vec![self.scalar(at, key, scalar)?],
        };
        let line = self.line(at);
        values.insert((section.to_owned(), key.to_owned()), Value { line, texts });
        Ok(())
    }

    fn scalar(&self, at: usize, key: &str, value: &DeValue<'_>) -> Result<String, FileError> {
        match value {
            DeValue::String(text) => Ok(text.to_string()),
            DeValue::Integer(number) => Ok(number.to_string()),
            DeValue::Boolean(flag) => Ok(flag.to_string()),
            DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
                let detail = format!("`{key}` cannot be a {}", value.type_str());
                Err(self.error(
                    at,
                    detail,
                    "write a string, a number, true, false, or a list of them",
                ))
            }
        }
    }

    fn section(&self, at: usize, name: &str) -> Result<(), FileError> {
        let mut sections: Vec<_> =
            self.known.iter().map(|(s, _)| s.as_str()).filter(|s| !s.is_empty()).collect();
        sections.dedup();
        if sections.contains(&name) {
            return Ok(());
        }
        Err(self.unknown(at, format!("unknown section [{name}]"), name, &sections))
    }

    fn unknown(&self, at: usize, detail: String, word: &str, known: &[&str]) -> FileError {
        let hint = match nearest(word, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", known.join(", ")),
        };
        self.error(at, detail, &hint)
    }

    fn error(&self, at: usize, detail: String, hint: &str) -> FileError {
        FileError { path: self.path.to_owned(), line: self.line(at), detail, hint: hint.to_owned() }
    }

    fn line(&self, at: usize) -> usize {
        self.text.get(..at).map_or(1, |before| before.matches('\n').count() + 1)
    }
}
