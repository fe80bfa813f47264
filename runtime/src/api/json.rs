//! Requests as JSON: a body becomes a message, or a fault that names the field and its remedy.

use dtask_proto::v1;
use serde::de::DeserializeOwned;
use tonic::Code;

use super::Fault;

/// Reads a JSON body.
///
/// # Errors
/// Malformed JSON with its place, an unknown key with the nearest known one, a wrong value with
/// its path.
pub fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let mut from = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut from).map_err(|error| {
        let path = error.path().to_string();
        fault(&path, error.inner())
    })?;
    from.end().map_err(|error| fault(".", &error))?;
    Ok(value)
}

fn fault(path: &str, error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let detail = text.strip_suffix(&place).unwrap_or(&text);
    if !error.is_data() {
        let detail = format!("the body is not JSON: {text}");
        return Fault::new(Code::InvalidArgument, "JSON_INVALID", detail);
    }
    match unknown_key(detail) {
        Some((key, known)) => {
            let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
            let field = match (parent, key) {
                ("", "") => "body".to_owned(),
                ("", key) => key.to_owned(),
                (parent, "") => parent.to_owned(),
                (parent, key) => format!("{parent}.{key}"),
            };
            let hint = match nearest(key, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            let detail = if key.is_empty() { "an empty key" } else { "no such field" };
            Fault::invalid(&field, detail, hint)
        }
        None if path == "." => Fault::invalid("body", detail, ""),
        None => Fault::invalid(path, detail, ""),
    }
}

/// serde's sentence about an unknown key, taken apart: the key, and the keys that it knows.
fn unknown_key(detail: &str) -> Option<(&str, Vec<&str>)> {
    let rest = detail.strip_prefix("unknown field `")?;
    // The key may hold anything, a quote too; what follows it is serde's.
    let ends = ["`, expected ", "`, there are no fields"];
    let (key, rest) = ends.iter().find_map(|end| rest.rsplit_once(end))?;
    let known = rest.split('`').skip(1).step_by(2).collect();
    Some((key, known))
}

/// The known word that a wrong one was probably meant to be.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|near| (distance(&word, near), *near))
        .filter(|(distance, near)| *distance <= 1 + near.len() / 4 || related(&word, near))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, near)| near)
}

/// `retries` and `max_retries`, `cron` and `cron_expr`.
fn related(word: &str, near: &str) -> bool {
    word.len() >= 4 && (near.contains(word) || word.contains(near) && near.len() >= 4)
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// An error as `application/problem+json` (RFC 9457).
pub fn problem(fault: &Fault, request_id: &str) -> serde_json::Value {
    let v1::Error { code, reason, detail, errors, retry_after: _ } = &fault.0;
    serde_json::json!({
        "type": format!("urn:dtask:error:{}", reason.to_ascii_lowercase()),
        "title": title(reason),
        "status": fault.http_status(),
        "detail": detail,
        "code": code,
        "reason": reason,
        "errors": errors,
        "request_id": request_id,
    })
}

/// `ID_CONFLICT` as `Id conflict`.
fn title(reason: &str) -> String {
    let words = reason.to_ascii_lowercase().replace('_', " ");
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_ascii_uppercase().to_string() + chars.as_str(),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(body: &str) -> v1::Error {
        read::<v1::SubmitTasksRequest>(body.as_bytes()).expect_err(body).0
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
        let error = refused(r#"{"tasks":[{"type":"exec"},{"type":"exec","max_retry":3}]}"#);
        assert_eq!(error.errors[0].field, "tasks[1].max_retry");
        assert_eq!(error.errors[0].hint, "did you mean `max_retries`?");
    }

    #[test]
    fn a_key_at_the_top_is_named_without_a_place() {
        let error = refused(r#"{"task":[]}"#);
        assert_eq!(error.errors[0].field, "task");
        assert_eq!(error.errors[0].hint, "did you mean `tasks`?");
    }

    #[test]
    fn a_key_that_is_like_none_lists_the_known_ones() {
        let error = refused(r#"{"zzz":[]}"#);
        assert_eq!(error.errors[0].hint, "known are tasks, request_id, retry");
    }

    #[test]
    fn a_key_with_a_quote_or_without_a_letter_is_named() {
        let error = refused(r#"{"`v`":1}"#);
        assert_eq!(error.errors[0].field, "`v`");
        assert_eq!(error.errors[0].hint, "known are tasks, request_id, retry");
        let error = refused(r#"{"":1}"#);
        assert_eq!((&*error.errors[0].field, &*error.errors[0].detail), ("body", "an empty key"));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_path() {
        let error = refused(r#"{"tasks":[{"every":"soon"}]}"#);
        assert_eq!(error.errors[0].field, "tasks[0].every");
        assert!(error.errors[0].detail.contains("`soon` is not a duration"), "{error:?}");
    }

    #[test]
    fn malformed_json_says_where() {
        let error = refused("{\"tasks\": [}");
        assert_eq!(error.reason, "JSON_INVALID");
        assert!(error.detail.contains("line 1 column 12"), "{}", error.detail);
        assert_eq!(refused("{} {}").reason, "JSON_INVALID");
    }

    #[test]
    fn payload_passes_byte_for_byte() {
        let body = br#"{"type":"exec","payload":{"n": 18446744073709551616, "f":1.50}}"#;
        let spec: v1::TaskSpec = read(body).expect("valid");
        assert_eq!(&spec.payload[..], br#"{"n": 18446744073709551616, "f":1.50}"#);
    }

    #[test]
    fn problem_carries_status_code_and_reason() {
        let json = problem(&Fault::not_found("task", "a"), "r1");
        assert_eq!(json["status"], 404);
        assert_eq!(json["code"], "NOT_FOUND");
        assert_eq!(json["title"], "Not found");
    }
}
