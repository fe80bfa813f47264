//! `postgres://…`: how to reach the server, and what must never be shown of it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sqlx::postgres::PgConnectOptions;

/// What replaces a password.
const HIDDEN: &str = "***";

/// Why a URL is none. Never repeats it: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a PostgreSQL URL: {0}")]
pub struct UrlError(String);

/// How to reach a database. Its password shows nowhere: not in `Debug`, not in `Display`, not in
/// an error.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(super) options: Arc<PgConnectOptions>,
    shown: Box<str>,
    /// The password as it is, and as the URL writes it.
    secrets: Vec<Box<str>>,
}

impl PostgresUrl {
    /// Whether a text is meant to be one.
    pub fn is_one(text: &str) -> bool {
        text.starts_with("postgres://") || text.starts_with("postgresql://")
    }

    /// How to connect.
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// A text without the password.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(&**secret, HIDDEN))
    }
}

impl FromStr for PostgresUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (shown, mut secrets) = redact(text);
        let hide = |said: String| secrets.iter().fold(said, |t, s| t.replace(&**s, HIDDEN));
        if !Self::is_one(text) {
            return Err(UrlError("write postgres://USER@HOST:PORT/DATABASE".to_owned()));
        }
        let options: PgConnectOptions =
            text.parse().map_err(|error: sqlx::Error| UrlError(hide(error.to_string())))?;
        let options = options.application_name("dtask");
        // As it is once its escapes are undone.
        let plain: Vec<Box<str>> = secrets.iter().map(|secret| unescape(secret)).collect();
        secrets.extend(plain);
        secrets.sort_unstable();
        secrets.dedup();
        // The longest first: a short one may be part of it.
        secrets.sort_by_key(|secret| core::cmp::Reverse(secret.len()));
        Ok(Self { options: Arc::new(options), shown: shown.into(), secrets })
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

impl PartialEq for PostgresUrl {
    fn eq(&self, other: &Self) -> bool {
        (&self.shown, &self.secrets) == (&other.shown, &other.secrets)
    }
}

impl Eq for PostgresUrl {}

/// A URL as it may be shown, whatever it is a URL of, and the passwords that were in it.
pub(crate) fn redact(url: &str) -> (String, Vec<Box<str>>) {
    let mut secrets = Vec::new();
    let mut shown = url.to_owned();
    // scheme://user:PASSWORD@host: a password may hold an `@` that somebody forgot to escape.
    if let Some((scheme, rest)) = url.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        // An unescaped `/` in the password ends the authority early: then up to the last `@`.
        let user = match authority.rsplit_once('@') {
            Some((user, _)) => Some(user),
            None => rest.rsplit_once('@').map(|(user, _)| user),
        };
        if let Some((name, password)) = user.and_then(|user| user.split_once(':'))
            && !password.is_empty()
        {
            secrets.push(password.into());
            let rest = &rest[name.len() + 1 + password.len()..];
            shown = format!("{scheme}://{name}:{HIDDEN}{rest}");
        }
    }
    // ?password=PASSWORD
    for key in ["password=", "sslpassword="] {
        let found = |at: &(usize, &str)| shown[..at.0].ends_with(['?', '&']);
        if let Some((at, _)) = shown.match_indices(key).find(found) {
            let value = &shown[at + key.len()..];
            let value = value.split('&').next().unwrap_or_default().to_owned();
            if !value.is_empty() {
                let (from, to) = (at + key.len(), at + key.len() + value.len());
                shown.replace_range(from..to, HIDDEN);
                secrets.push(value.into());
            }
        }
    }
    (shown, secrets)
}

/// Undoes `%2F` and the like.
fn unescape(text: &str) -> Box<str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = match (first, tail) {
            (b'%', [high, low, ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                digit(high).zip(digit(low)).map(|(high, low)| (high * 16 + low) as u8)
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_texts_are_shown_as_they_are() {
        for text in ["sqlite:./a:b@c", "127.0.0.1:7100", "1=node:7100", "none", "a://b:c"] {
            assert_eq!(redact(text), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn a_password_shows_nowhere() {
        let texts = [
            "postgres://me:s3cret%2Fword@db.example:5433/history?sslmode=require",
            "postgresql://me:s3cret/word@db.example/history",
            "postgres://me:s3cret@word@db.example/history",
            "postgres://db.example/history?user=me&password=s3cretword&sslmode=disable",
            "mysql://me:s3cretword@db.example/history",
        ];
        for text in texts {
            let (shown, secrets) = redact(text);
            assert!(!shown.contains("s3cret") && !shown.contains("word@"), "{shown}");
            assert_eq!(secrets.len(), 1, "{text}");
            match text.parse::<PostgresUrl>() {
                Ok(url) => {
                    assert!(!format!("{url} {url:?}").contains("s3cret"), "{url:?}");
                    let said = url.hide("password s3cret%2Fword or s3cret/word failed");
                    assert!(!text.contains("%2F") || !said.contains("s3cret"), "{said}");
                }
                Err(error) => assert!(!error.to_string().contains("s3cret"), "{error}"),
            }
        }
    }

    #[test]
    fn a_url_without_a_password_is_shown_whole() {
        let url: PostgresUrl = "postgres://me@db.example/history".parse().expect("a URL");
        assert_eq!(url.to_string(), "postgres://me@db.example/history");
        assert_eq!(url.hide("nothing to hide"), "nothing to hide");
    }

    #[test]
    fn what_is_no_url_is_refused_without_repeating_it() {
        for text in ["postgres:/me:s3cret@x", "sqlite:s3cret", "postgres://x:s3cret@h:port/d"] {
            let error = text.parse::<PostgresUrl>().expect_err("it is none").to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
