//! What the voters' clocks say of this node's (P6.2), as far as they are known.
//!
//! A clock is judged only on proof: it is wrong when a majority of the voters, this node not
//! counted, is known to be ahead of it, or behind it, by more than the tolerance. Then the median
//! is that far away too, whatever the clocks that are not known show. Hence a node that hears of
//! too few is never wrong: two of three, or a single one, cannot tell whose clock it is.

/// How far a clock may be from the median, in microseconds (P6.2).
pub(super) const TOLERANCE: i64 = 1_000_000;

/// What to add to this node's clock: zero while nothing proves it wrong, else up to where the
/// median is at least. `ahead` holds how far each known clock of the other `voters` is ahead.
pub(super) fn correction(ahead: &mut [i64], voters: usize) -> i64 {
    let majority = voters / 2 + 1;
    ahead.sort_unstable();
    let Some(place) = ahead.len().checked_sub(majority) else { return 0 };
    // The least of the majority that is furthest ahead, and of the one that is furthest behind.
    let bounds = [ahead.get(place), ahead.get(majority - 1)];
    match bounds {
        [Some(&low), _] if low > TOLERANCE => low,
        [_, Some(&high)] if high < -TOLERANCE => high,
        [_, _] => 0,
    }
}

/// The median of the known clocks, as far as it is ahead of this node's: for people to look at.
pub(super) fn median(ahead: &[i64]) -> i64 {
    let mut all = ahead.to_vec();
    all.push(0);
    all.sort_unstable();
    all.get((all.len() - 1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_single_voter_and_a_pair_cannot_tell() {
        assert_eq!(correction(&mut [], 1), 0);
        assert_eq!(correction(&mut [600 * SECOND], 2), 0);
        assert_eq!(correction(&mut [600 * SECOND], 3), 0);
    }

    #[test]
    fn the_odd_one_of_three_is_moved_to_the_nearer_of_the_others() {
        assert_eq!(correction(&mut [601 * SECOND, 600 * SECOND], 3), 600 * SECOND);
        assert_eq!(correction(&mut [-601 * SECOND, -600 * SECOND], 3), -600 * SECOND);
    }

    #[test]
    fn the_middle_one_is_right_whatever_the_others_show() {
        assert_eq!(correction(&mut [-600 * SECOND, 600 * SECOND], 3), 0);
    }

    #[test]
    fn a_second_is_tolerated() {
        assert_eq!(correction(&mut [SECOND, SECOND], 3), 0);
        assert_eq!(correction(&mut [SECOND + 1, SECOND + 1], 3), SECOND + 1);
    }

    #[test]
    fn of_five_voters_three_others_prove_it() {
        assert_eq!(correction(&mut [9 * SECOND, 8 * SECOND], 5), 0);
        assert_eq!(correction(&mut [9 * SECOND, 8 * SECOND, -SECOND], 5), 0);
        assert_eq!(correction(&mut [9 * SECOND, 8 * SECOND, 7 * SECOND], 5), 7 * SECOND);
        let all = &mut [9 * SECOND, 8 * SECOND, 7 * SECOND, -50 * SECOND];
        assert_eq!(correction(all, 5), 7 * SECOND);
    }

    /// Whatever the unknown clocks show, the true median is at least as far away.
    #[test]
    fn the_correction_never_overshoots_the_median() {
        let mut rng = crate::rng::Rng::new(7);
        for _ in 0..2_000 {
            let voters = [3, 5, 7][rng.below(3) as usize];
            let draw = |rng: &mut crate::rng::Rng| rng.below(20) as i64 * SECOND - 10 * SECOND;
            let others: alloc::vec::Vec<i64> = (1..voters).map(|_| draw(&mut rng)).collect();
            let known = rng.below(voters as u64) as usize;
            let by = correction(&mut others[..known].to_vec(), voters);
            let mut all = others;
            all.push(0);
            all.sort_unstable();
            let median = all[voters / 2];
            assert!(by == 0 || (by.signum() == median.signum() && by.abs() <= median.abs()));
            // With every clock known, the verdict is the rule's.
            if known + 1 == voters {
                assert_eq!(by != 0, median.abs() > TOLERANCE);
            }
        }
    }
}
