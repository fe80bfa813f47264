//! What keeps the house in order and a machine can see.

use dtask_tests::{files, root, text};

const FOLDERS: &[&str] = &["core", "runtime", "sim", "proto", "tests", "xtask", "fuzz/targets"];

/// Longer files hide a second thing. Those named here are lists without branches.
const LINES_MAX: usize = 500;
const LONG: &[&str] = &["core/src/node/request.rs"];

#[test]
fn nothing_is_left_over() {
    let words = ["todo!(", "unimplemented!(", concat!("FIX", "ME"), concat!("XX", "X"), "#[ignore"];
    let mut wrong = Vec::new();
    for (name, source) in sources() {
        if name == "tests/tests/tidy.rs" {
            continue;
        }
        for (index, line) in source.lines().enumerate() {
            if words.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{} {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "left over:\n{}", wrong.join("\n"));
}

#[test]
fn files_say_one_thing() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(name, _)| !LONG.contains(&name.as_str()))
        .map(|(name, source)| (source.lines().count(), name))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "over {LINES_MAX} lines: {long:?}");
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<_> = sources()
        .into_iter()
        .filter(|(name, _)| !name.ends_with("/build.rs"))
        .filter(|(_, source)| !source.lines().take(4).any(|line| line.starts_with("//!")))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "without a first paragraph: {silent:?}");
}

#[test]
fn core_uses_the_glossary() {
    let banned = ["Manager", "Helper", "Util"];
    let mut wrong = Vec::new();
    for path in files("core/src", "rs") {
        let (name, source) = text(&path);
        for (index, line) in source.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let named = ["struct ", "enum ", "trait ", "type "].iter().any(|kind| {
                code.split_once(kind).is_some_and(|(_, rest)| {
                    let ident = rest.split(|c: char| !c.is_alphanumeric()).next();
                    ident.is_some_and(|ident| banned.iter().any(|word| ident.contains(word)))
                })
            });
            if named || code.contains("fn get_") {
                wrong.push(format!("{name}:{} {}", index + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "not our words (docs/glossary.md):\n{}", wrong.join("\n"));
}

/// The ids of docs/invariants.md that this version checks, from its table's first column.
fn invariants() -> Vec<String> {
    let (_, table) = text(&root().join("docs/invariants.md"));
    table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(' ').next())
        .filter(|id| {
            let mut letters = id.chars();
            matches!(letters.next(), Some('S' | 'L' | 'B'))
                && id.len() > 1
                && letters.all(|digit| digit.is_ascii_digit())
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_invariant_of_the_table_has_its_checker() {
    let ids = invariants();
    assert!(ids.len() >= 20, "docs/invariants.md lists only {ids:?}");
    let checkers: String =
        files("sim/src", "rs").iter().map(|path| text(path).1).collect::<Vec<_>>().join("\n");
    let missing: Vec<_> = ids.iter().filter(|id| !mentions(&checkers, id)).collect();
    assert!(missing.is_empty(), "no checker in sim/ names {missing:?}");
}

#[test]
fn cited_invariants_exist() {
    let ids = invariants();
    let mut wrong = Vec::new();
    for (name, source) in sources() {
        for (index, line) in source.lines().enumerate() {
            let Some((_, cited)) = line.split_once("Upholds ") else { continue };
            let id = cited.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            if name != "tests/tests/tidy.rs" && !ids.iter().any(|known| known == id) {
                wrong.push(format!("{name}:{} cites {id}", index + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "unknown to docs/invariants.md:\n{}", wrong.join("\n"));
}

fn mentions(haystack: &str, id: &str) -> bool {
    haystack.match_indices(id).any(|(at, _)| {
        let after = haystack[at + id.len()..].chars().next();
        let before = haystack[..at].chars().next_back();
        !after.is_some_and(char::is_alphanumeric) && !before.is_some_and(char::is_alphanumeric)
    })
}

fn sources() -> Vec<(String, String)> {
    FOLDERS.iter().flat_map(|folder| files(folder, "rs")).map(|path| text(&path)).collect()
}
