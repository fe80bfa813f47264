//! Which tokens were ever held: the memory behind "a token starts at most once" (P7.5).

use alloc::collections::BTreeMap;

use crate::id::Token;

/// A growing set of tokens as disjoint ranges, bounded: when it is full, everything up to the
/// lowest range's end counts as a member. Tokens rise over the cluster's life, so what that takes
/// in is old, and the worst it can do is to leave an attempt unstarted.
#[derive(Debug)]
pub(super) struct SeenTokens {
    /// Members without exception: everything at or below.
    floor: u64,
    /// First token to last, both included; disjoint, not adjacent, all above `floor`.
    ranges: BTreeMap<u64, u64>,
    ranges_max: usize,
}

impl SeenTokens {
    /// An empty set that remembers up to `ranges_max` ranges.
    pub(super) const fn new(ranges_max: usize) -> Self {
        Self { floor: 0, ranges: BTreeMap::new(), ranges_max }
    }

    /// Tells whether `token` was inserted (or is too old to tell).
    pub(super) fn contains(&self, token: Token) -> bool {
        token.0 <= self.floor
            || self.ranges.range(..=token.0).next_back().is_some_and(|(_, &last)| token.0 <= last)
    }

    /// Inserts `token`.
    pub(super) fn insert(&mut self, token: Token) {
        if self.contains(token) {
            return;
        }
        let before = self.ranges.range(..token.0).next_back().map(|(&first, &last)| (first, last));
        let first = match before {
            Some((first, last)) if last + 1 == token.0 => first,
            Some(_) | None => token.0,
        };
        let last = self.ranges.remove(&(token.0 + 1)).unwrap_or(token.0);
        self.ranges.insert(first, last);
        if self.ranges.len() > self.ranges_max
            && let Some((_, last)) = self.ranges.pop_first()
        {
            self.floor = last;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn consecutive_tokens_are_one_range() {
        let mut seen = SeenTokens::new(4);
        for token in [5, 7, 6, 4, 9, 8] {
            seen.insert(Token(token));
        }
        assert_eq!(seen.ranges, BTreeMap::from([(4, 9)]));
        assert!(!seen.contains(Token(3)) && !seen.contains(Token(10)));
    }

    #[test]
    fn a_full_memory_takes_old_tokens_for_seen() {
        let mut seen = SeenTokens::new(2);
        for token in [10, 20, 30] {
            seen.insert(Token(token));
        }
        assert!(seen.contains(Token(3)), "at or below the floor");
        assert!(!seen.contains(Token(11)));
        assert!(seen.contains(Token(20)) && seen.contains(Token(30)));
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_set_while_there_is_room(tokens in prop::collection::vec(1u64..60, 0..80)) {
            let mut seen = SeenTokens::new(64);
            let mut plain = BTreeSet::new();
            for token in tokens {
                seen.insert(Token(token));
                plain.insert(token);
            }
            for token in 1..62 {
                prop_assert_eq!(seen.contains(Token(token)), plain.contains(&token));
            }
        }
    }
}
