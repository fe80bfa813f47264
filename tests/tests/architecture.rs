//! The arrows between the parts, read from the sources and from `cargo tree`.

use std::process::Command;

use dtask_tests::{files, root, text};

/// Which modules of `core` a module may name. Everyone may name the words: `id`, `time`, `limits`,
/// `rng`, `machine`.
const ARROWS: &[(&str, &[&str])] = &[
    ("spec", &[]),
    ("state", &["spec", "codec"]),
    ("consensus", &[]),
    ("log", &["consensus"]),
    ("leader", &["state", "spec", "codec", "consensus", "worker", "node"]),
    ("node", &["leader", "state", "spec", "codec", "consensus", "log", "worker"]),
    ("worker", &["spec"]),
    ("client", &[]),
    ("codec", &["spec", "state", "consensus", "worker", "node"]),
];
const WORDS: &[&str] = &["id", "time", "limits", "rng", "machine"];

/// Files that hold wire and log vocabulary: data without behaviour that a lower module may name.
const VOCABULARY: &[&str] = &["worker::Assignment", "worker::frame::Assignment"];

#[test]
fn modules_of_core_name_only_what_the_map_allows() {
    let mut wrong = Vec::new();
    for path in files("core/src", "rs") {
        let (name, source) = text(&path);
        let Some(module) = name.trim_start_matches("core/src/").split('/').next() else { continue };
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == module) else { continue };
        for (line, named) in crate_paths(&source) {
            let target = named.split("::").next().unwrap_or_default();
            let fine = target == module
                || WORDS.contains(&target)
                || allowed.contains(&target)
                || VOCABULARY.iter().any(|word| named.starts_with(word));
            if !fine {
                wrong.push(format!("{name}:{line} names crate::{named}"));
            }
        }
    }
    assert!(wrong.is_empty(), "arrows against the map:\n{}", wrong.join("\n"));
}

#[test]
fn only_consensus_names_raft_and_only_codec_names_the_wire() {
    let mut wrong = Vec::new();
    for path in files("core/src", "rs") {
        let (name, source) = text(&path);
        for (line, row) in code_lines(&source) {
            let raft = ["raft::", "protobuf::"].iter().any(|word| {
                row.match_indices(word).any(|(at, _)| {
                    row[..at].chars().next_back().is_none_or(|before| !is_path_part(before))
                })
            });
            if raft && !name.starts_with("core/src/consensus/") {
                wrong.push(format!("{name}:{line} names raft: {row}"));
            }
            if row.contains("dtask_proto") && !name.starts_with("core/src/codec/") {
                wrong.push(format!("{name}:{line} names the wire: {row}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn core_knows_no_runtime() {
    let closure = tree(&["--package", "dtask-core", "--edges", "normal"]);
    for banned in ["tokio", "tonic", "hyper", "sqlx", "mio", "axum", "madsim"] {
        let found = closure.lines().any(|line| line.split(' ').next() == Some(banned));
        assert!(!found, "dtask-core depends on {banned}");
    }
}

#[test]
fn no_madsim_crate_in_a_production_build() {
    let closure = tree(&["--package", "dtask-runtime", "--edges", "normal"]);
    let found: Vec<_> = closure.lines().filter(|line| line.starts_with("madsim")).collect();
    assert!(found.is_empty(), "dtask-runtime depends on {found:?}");
}

#[test]
fn core_forbids_unsafe_code_and_std() {
    let (_, source) = text(&root().join("core/src/lib.rs"));
    assert!(source.contains("#![no_std]"));
    assert!(source.contains("#![forbid(unsafe_code)]"));
}

fn tree(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none", "--format", "{p}"])
        .args(words)
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The lines of a file that are code outside its tests, numbered from 1.
fn code_lines(source: &str) -> impl Iterator<Item = (usize, &str)> {
    source
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.starts_with("//"))
}

/// Every path behind `crate::` in a file's code.
fn crate_paths(source: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (line, row) in code_lines(source) {
        for (at, _) in row.match_indices("crate::") {
            let path = &row[at + "crate::".len()..];
            let end = path.find(|c: char| !is_path_part(c) && c != ':').unwrap_or(path.len());
            found.push((line, &path[..end]));
        }
    }
    found
}

fn is_path_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == ':'
}
