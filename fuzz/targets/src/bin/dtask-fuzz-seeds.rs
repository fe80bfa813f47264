//! Writes the seeds of every target into a directory of corpora: `dtask-fuzz-seeds fuzz/corpus`.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(corpora) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: dtask-fuzz-seeds DIRECTORY");
        return ExitCode::FAILURE;
    };
    for (number, (target, seed)) in dtask_fuzz::seeds::seeds().into_iter().enumerate() {
        let directory = corpora.join(target);
        let path = directory.join(format!("seed-{number:03}"));
        let written =
            std::fs::create_dir_all(&directory).and_then(|()| std::fs::write(&path, seed));
        if let Err(error) = written {
            eprintln!("{}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
