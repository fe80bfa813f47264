//! The history of effects that handlers left outside of DTask, and what must hold of it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// One attempt as the outside saw it.
#[derive(Clone, Debug)]
pub struct Effect {
    /// The fencing token that the handler was given.
    pub token: u64,
    /// Which run of the task.
    pub run: u32,
    /// Monotonic nanoseconds.
    pub start: u64,
    /// Its newest sign of life, monotonic nanoseconds: a handler at work gives one every 100 ms.
    pub seen: u64,
    /// Monotonic nanoseconds; `None` while it works, or when it was killed.
    pub end: Option<u64>,
}

/// All effects by task id, in the order of their start.
pub type Effects = BTreeMap<String, Vec<Effect>>;

/// Reads the file that `dtask-effect` appends to.
pub fn read(path: &Path) -> Result<Effects> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let mut effects = Effects::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [what, token, task, run, _attempt, at] = words[..] else {
            anyhow::bail!("not a line of dtask-effect: {line}");
        };
        let (token, run, at) = (token.parse()?, run.parse()?, at.parse()?);
        let of_task = effects.entry(task.to_owned()).or_default();
        if what == "start" {
            of_task.push(Effect { token, run, start: at, seen: at, end: None });
            continue;
        }
        let effect = of_task
            .iter_mut()
            .find(|effect| effect.token == token && effect.end.is_none())
            .with_context(|| format!("a mark without its start: {line}"))?;
        effect.seen = at;
        if what == "end" {
            effect.end = Some(at);
        }
    }
    Ok(effects)
}

/// S11: at most one live attempt per run, and the tokens of a run strictly increase.
pub fn never_two_at_once(effects: &Effects) -> Result<()> {
    for (task, of_task) in effects {
        for (index, later) in of_task.iter().enumerate() {
            for earlier in of_task[..index].iter().filter(|earlier| earlier.run == later.run) {
                ensure!(
                    earlier.token < later.token,
                    "S11: {task} started with token {} after token {}",
                    later.token,
                    earlier.token
                );
                ensure!(
                    earlier.seen <= later.start,
                    "S11: {task} ran twice at the same time: {earlier:?} and {later:?}"
                );
            }
        }
    }
    Ok(())
}

/// The instants at which handlers started, ascending.
pub fn starts(effects: &Effects) -> Vec<u64> {
    let mut starts: Vec<u64> = effects.values().flatten().map(|effect| effect.start).collect();
    starts.sort_unstable();
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(triples: &[(u64, u64, u64)]) -> Effects {
        let effect = |&(token, start, seen)| Effect { token, run: 1, start, seen, end: None };
        Effects::from([("t".to_owned(), triples.iter().map(effect).collect())])
    }

    #[test]
    fn an_overlap_is_found() {
        assert!(never_two_at_once(&one(&[(1, 10, 20), (2, 20, 30)])).is_ok());
        assert!(never_two_at_once(&one(&[(1, 10, 21), (2, 20, 30)])).is_err());
    }

    #[test]
    fn a_falling_token_is_found() {
        assert!(never_two_at_once(&one(&[(2, 10, 20), (1, 20, 30)])).is_err());
    }
}
