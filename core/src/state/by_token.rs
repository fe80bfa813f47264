//! A map from tokens, in their order. Tokens are given in sequence and mostly go in sequence, so
//! the map is a tree of chunks of neighbours: it is searched as any tree, and changes its shape once
//! for so many tokens. A tree with a value for each key spends more on moving values between its
//! nodes than `apply` does on all the rest of an attempt.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

/// Neighbours of a chunk. More would make the tree smaller still, but a run that goes on for months
/// keeps a whole chunk.
const CHUNK: u64 = 8;

type Chunk<T> = Box<[Option<T>; CHUNK as usize]>;

/// The map.
#[derive(Debug)]
pub(super) struct ByToken<T> {
    /// By token / `CHUNK`; none is empty.
    chunks: BTreeMap<u64, Chunk<T>>,
    len: usize,
}

impl<T> Default for ByToken<T> {
    fn default() -> Self {
        Self { chunks: BTreeMap::new(), len: 0 }
    }
}

impl<T> ByToken<T> {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn at(&self, token: u64) -> Option<&T> {
        self.chunks.get(&(token / CHUNK))?[place(token)].as_ref()
    }

    pub(super) fn at_mut(&mut self, token: u64) -> Option<&mut T> {
        self.chunks.get_mut(&(token / CHUNK))?[place(token)].as_mut()
    }

    pub(super) fn insert(&mut self, token: u64, value: T) {
        let chunk = self.chunks.entry(token / CHUNK);
        let chunk = chunk.or_insert_with(|| Box::new([const { None }; CHUNK as usize]));
        if chunk[place(token)].replace(value).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn take(&mut self, token: u64) -> Option<T> {
        let chunk = self.chunks.get_mut(&(token / CHUNK))?;
        let taken = chunk[place(token)].take()?;
        self.len -= 1;
        if chunk.iter().all(Option::is_none) {
            self.chunks.remove(&(token / CHUNK));
        }
        Some(taken)
    }

    /// All values from this token on.
    pub(super) fn from(&self, token: u64) -> impl Iterator<Item = (u64, &T)> {
        let chunks = self.chunks.range(token / CHUNK..);
        let all = chunks.flat_map(|(&number, chunk)| {
            let tokens = number * CHUNK..;
            tokens.zip(chunk.iter()).filter_map(|(token, held)| Some((token, held.as_ref()?)))
        });
        all.skip_while(move |&(held, _)| held < token)
    }
}

const fn place(token: u64) -> usize {
    (token % CHUNK) as usize
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::ByToken;

    proptest! {
        #[test]
        fn a_map_by_token_does_what_a_tree_does(
            steps in prop::collection::vec((0..3_u8, 0..60_u64), 0..300),
        ) {
            let (mut map, mut model) = (ByToken::default(), BTreeMap::new());
            for (step, (what, token)) in steps.into_iter().enumerate() {
                match what {
                    0 => {
                        map.insert(token, step);
                        model.insert(token, step);
                    }
                    1 => prop_assert_eq!(map.take(token), model.remove(&token)),
                    _ => prop_assert_eq!(map.at_mut(token), model.get_mut(&token)),
                }
                prop_assert_eq!((map.len(), map.at(token)), (model.len(), model.get(&token)));
                let held: Vec<_> = map.from(token).collect();
                let expected: Vec<_> = model.range(token..).map(|(&at, held)| (at, held)).collect();
                prop_assert_eq!(held, expected);
            }
            prop_assert!(map.chunks.values().all(|chunk| chunk.iter().any(Option::is_some)));
        }
    }
}
