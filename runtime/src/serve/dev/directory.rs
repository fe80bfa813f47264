//! The directory of `dtask dev`: whose it is, and for how many nodes.

use std::fs;
use std::path::Path;

use crate::serve::config::ServeError;

/// Says that a directory is `dtask dev`'s, and for how many nodes.
const MARK: &str = "dev.json";

/// Makes the directory, or checks that it is for as many nodes; true when it is new.
pub(super) fn prepare(dir: &Path, nodes: u32, fresh: bool) -> Result<bool, ServeError> {
    let mark = dir.join(MARK);
    let known = mark.exists();
    if fresh && known {
        fs::remove_dir_all(dir).map_err(|error| cannot("empty", dir, &error))?;
    } else if known {
        let stored = stored_nodes(&mark)?;
        if stored != nodes {
            return Err(ServeError::Option {
                option: "--nodes",
                detail: format!(
                    "{} holds a cluster of {stored} and cannot become one of {nodes}: say \
                     --nodes {stored}, name another --dir, or throw it away by --fresh",
                    dir.display()
                ),
            });
        }
        return Ok(false);
    } else if dir.exists() && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(ServeError::Option {
            option: "--dir",
            detail: format!(
                "{} holds something that `dtask dev` did not make; name an empty or new directory",
                dir.display()
            ),
        });
    }
    fs::create_dir_all(dir).map_err(|error| cannot("make", dir, &error))?;
    let text = serde_json::json!({ "nodes": nodes }).to_string();
    fs::write(&mark, text).map_err(|error| cannot("write to", dir, &error))?;
    Ok(true)
}

fn stored_nodes(mark: &Path) -> Result<u32, ServeError> {
    let broken = |detail: String| {
        ServeError::Data(format!("{}: {detail}; --fresh throws the directory away", mark.display()))
    };
    let text = fs::read_to_string(mark).map_err(|error| broken(error.to_string()))?;
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
    let nodes = value["nodes"].as_u64().and_then(|nodes| u32::try_from(nodes).ok());
    nodes.ok_or_else(|| broken("it names no number of nodes".to_owned()))
}

fn cannot(what: &str, dir: &Path, error: &std::io::Error) -> ServeError {
    ServeError::Data(format!("cannot {what} {}: {error}", dir.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_keeps_its_number_of_nodes() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let dir = folder.path().join("data");
        assert!(prepare(&dir, 3, false).expect("a new directory"));
        assert!(!prepare(&dir, 3, false).expect("the same number"));
        let error = prepare(&dir, 1, false).expect_err("another number").to_string();
        assert!(error.contains("--nodes 3"), "{error}");
        assert!(prepare(&dir, 1, true).expect("thrown away"));
    }

    #[test]
    fn foreign_directory_is_left_alone() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        fs::write(folder.path().join("thesis.tex"), "years").expect("it is writable");
        for fresh in [false, true] {
            assert!(prepare(folder.path(), 1, fresh).is_err());
        }
        assert!(folder.path().join("thesis.tex").exists());
    }
}
