//! Every committed input of every target, on the stable compiler: corpora as libFuzzer minimised
//! them, and one file for each finding that was fixed. Nothing is skipped in silence: targets,
//! their binaries and their corpora are compared with the table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dtask_fuzz::{TARGETS, Target};

/// The targets that the table has only with the feature `edges`.
const EDGES: [&str; 3] = ["config", "json", "requests"];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it stands in fuzz/").to_owned()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> =
        entries.map(|entry| entry.expect("it can be listed").path()).collect();
    files.sort();
    files
}

/// The names of what a directory holds, without their suffix.
fn names(directory: &Path) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_stem().map(|name| name.to_string_lossy().into_owned());
    files(directory).iter().filter_map(stem).collect()
}

#[test]
fn every_committed_input_passes() {
    // A thread each: the memory that targets measure is counted by thread.
    std::thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(|| replay(target));
        }
    });
}

fn replay(target: &Target) {
    let begun = Instant::now();
    let corpus = files(&fuzz().join("corpus").join(target.name));
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    let found = files(&fuzz().join("regressions").join(target.name));
    for path in corpus.iter().chain(&found) {
        let input = fs::read(path).expect("it can be read");
        let run = std::panic::catch_unwind(|| (target.run)(&input));
        assert!(run.is_ok(), "{}: replay {}", target.name, path.display());
    }
    let (corpus, found) = (corpus.len(), found.len());
    println!("{:12} {corpus} + {found} inputs, {:?}", target.name, begun.elapsed());
}

#[test]
fn every_target_has_a_binary_and_every_directory_a_target() {
    let mut targets: BTreeSet<String> =
        TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(targets.len(), TARGETS.len(), "names are unique");
    // Their files stand there whatever this build runs.
    for name in EDGES {
        assert_eq!(targets.insert(name.to_owned()), cfg!(not(feature = "edges")), "{name}");
    }
    assert_eq!(names(&fuzz().join("fuzz_targets")), targets);
    assert_eq!(names(&fuzz().join("corpus")), targets);
    assert!(names(&fuzz().join("regressions")).is_subset(&targets));
    assert!(names(&fuzz().join("dictionaries")).is_subset(&targets));
    let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).expect("it can be read");
    for name in &targets {
        let line = format!("path = \"fuzz_targets/{name}.rs\"");
        assert!(manifest.contains(&line), "fuzz/Cargo.toml has no binary {name}");
        let source = fs::read_to_string(fuzz().join(format!("fuzz_targets/{name}.rs")));
        let called = format!("dtask_fuzz::run(\"{name}\", data)");
        assert!(source.expect("it can be read").contains(&called), "{name} runs another target");
    }
}
