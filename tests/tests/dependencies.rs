//! Licences and bans of every crate in the lock file, from `cargo metadata`: the part of deny.toml
//! that needs no further tool.

use std::process::Command;

use dtask_tests::root;
use serde::Deserialize;

/// Permissive licences, as deny.toml allows them.
const ALLOWED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not enter, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "TLS is rustls with ring"),
    ("aws-lc-rs", "needs cmake on some targets; ring is the provider"),
    ("protobuf-src", "builds protoc; protox compiles our schema"),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

fn packages() -> Vec<Package> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Metadata = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    metadata.packages
}

#[test]
fn every_licence_is_permissive() {
    let wrong: Vec<_> = packages()
        .into_iter()
        .filter(|package| package.source.is_some())
        .filter(|package| !package.license.as_deref().is_some_and(permitted))
        .map(|package| format!("{} {}: {:?}", package.name, package.version, package.license))
        .collect();
    assert!(wrong.is_empty(), "not permitted by deny.toml:\n{}", wrong.join("\n"));
}

#[test]
fn no_banned_crate_enters() {
    for package in packages() {
        for (name, reason) in BANNED {
            assert_ne!(&package.name, name, "{name} is banned: {reason}");
        }
    }
}

#[test]
fn every_crate_comes_from_the_registry() {
    for package in packages() {
        let from = package.source.unwrap_or_else(|| "registry+workspace".to_owned());
        assert!(from.starts_with("registry+"), "{} comes from {from}", package.name);
    }
}

/// Whether an SPDX expression can be satisfied: `OR` needs one side, `AND` both.
fn permitted(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], " ");
    expression
        .split(" AND ")
        .all(|part| part.split(" OR ").any(|licence| ALLOWED.contains(&licence.trim())))
}

#[test]
fn a_copyleft_licence_is_not_permitted() {
    assert!(permitted("MIT OR Apache-2.0"));
    assert!(permitted("(MIT OR GPL-3.0) AND Unicode-3.0"));
    assert!(!permitted("GPL-3.0-only"));
    assert!(!permitted("MIT AND AGPL-3.0"));
}
