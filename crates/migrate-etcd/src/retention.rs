//! Which backups are kept. Pure.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::Offset;
use migrate_core::steps::BackupProof;

/// Which backups of a cluster are kept: of those that are proven or better the newest `last`, and
/// the newest of each of the last hours, days, weeks (from Monday) and months that have one, in
/// UTC; and of those that are not, as many again, counted apart.
///
/// # Guarantees
/// * The newest backup is kept, and the newest that is proven or better, whatever
///   the numbers say.
/// * Whether a proven one is kept depends on proven ones alone: however many come that are not,
///   none of them takes its place.
/// * What is kept does not depend on the order in which backups are listed, nor on
///   the time of day: no clock is read.
/// * What was kept is kept again if nothing was added.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Retention {
    /// Newest ones.
    pub last: usize,
    /// Hours.
    pub hourly: usize,
    /// Days.
    pub daily: usize,
    /// Weeks.
    pub weekly: usize,
    /// Months.
    pub monthly: usize,
}

/// The newest three, and those of 24 hours, seven days, four weeks and twelve
/// months.
impl Default for Retention {
    fn default() -> Self {
        Self {
            last: 3,
            hourly: 24,
            daily: 7,
            weekly: 4,
            monthly: 12,
        }
    }
}

impl Retention {
    /// Nothing but the newest, and the newest that is proven.
    pub fn least() -> Self {
        Self {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
        }
    }

    /// Of each of these backups of one cluster whether it is kept.
    #[must_use]
    pub fn keep(&self, backups: &[(Timestamp, BackupProof)]) -> Vec<bool> {
        let mut order: Vec<usize> = (0..backups.len()).collect();
        let of = |at: &usize| backups.get(*at).copied();
        // Newest first; of two of the same time the better one.
        order.sort_by_key(|at| std::cmp::Reverse((of(at), *at)));
        let mut kept: BTreeSet<usize> = order.first().copied().into_iter().collect();
        let proven = |at: &usize| of(at).is_some_and(|(_, proof)| proof >= BackupProof::Proven);
        let (proven, others): (Vec<usize>, Vec<usize>) = order.into_iter().partition(proven);
        kept.extend(proven.first());
        for alike in [proven, others] {
            let taken: Vec<_> = alike
                .iter()
                .filter_map(of)
                .map(|(taken, _)| taken)
                .collect();
            kept.extend(
                self.of_alike(&taken)
                    .into_iter()
                    .filter_map(|at| alike.get(at)),
            );
        }
        (0..backups.len()).map(|at| kept.contains(&at)).collect()
    }

    /// Which of backups that are as good as each other are kept; newest first.
    fn of_alike(&self, taken: &[Timestamp]) -> BTreeSet<usize> {
        let mut kept: BTreeSet<usize> = (0..taken.len().min(self.last)).collect();
        let periods: [(usize, Period); 4] = [
            (self.hourly, |taken| taken.as_second().div_euclid(3600)),
            (self.daily, day),
            // The epoch was a Thursday.
            (self.weekly, |taken| (day(taken) + 3).div_euclid(7)),
            (self.monthly, month),
        ];
        for (count, period) in periods {
            let mut seen = BTreeSet::new();
            for (at, taken) in taken.iter().enumerate() {
                if seen.len() < count && seen.insert(period(*taken)) {
                    kept.insert(at);
                }
            }
        }
        kept
    }
}

/// The number of the period that a time is in.
type Period = fn(Timestamp) -> i64;

fn day(taken: Timestamp) -> i64 {
    taken.as_second().div_euclid(86_400)
}

fn month(taken: Timestamp) -> i64 {
    let date = Offset::UTC.to_datetime(taken);
    i64::from(date.year()) * 12 + i64::from(date.month())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn each_period_keeps_its_newest() {
        let taken = [
            "2026-11-29T10:30:00Z",
            "2026-11-29T10:10:00Z",
            "2026-11-29T09:50:00Z",
            "2026-11-28T23:00:00Z",
            "2026-11-28T01:00:00Z",
            "2026-11-23T00:00:00Z", // a Monday: the week of the 29th
            "2026-11-22T23:59:00Z", // a Sunday: the week before
            "2026-10-31T12:00:00Z",
        ];
        let all: Vec<_> = taken.map(|text| (at(text), BackupProof::Unproven)).into();
        let kept = |retention: Retention| {
            let keep = retention.keep(&all);
            let kept = (0..all.len()).filter(|at| keep[*at]);
            kept.collect::<Vec<_>>()
        };
        let least = Retention::least();
        assert_eq!(kept(least), [0]);
        assert_eq!(kept(Retention { last: 2, ..least }), [0, 1]);
        assert_eq!(kept(Retention { hourly: 2, ..least }), [0, 2]);
        assert_eq!(kept(Retention { daily: 3, ..least }), [0, 3, 5]);
        assert_eq!(kept(Retention { weekly: 2, ..least }), [0, 6]);
        assert_eq!(
            kept(Retention {
                monthly: 9,
                ..least
            }),
            [0, 7]
        );
    }

    #[test]
    fn the_newest_proven_one_stays_whatever_came_after() {
        let mut all = vec![
            (at("2020-01-01T00:00:00Z"), BackupProof::Restored),
            (at("2021-01-01T00:00:00Z"), BackupProof::Proven),
        ];
        all.extend((1..9).map(|day| {
            let taken = format!("2026-01-0{day}T00:00:00Z");
            (at(&taken), BackupProof::Unproven)
        }));
        let keep = Retention::least().keep(&all);
        let kept: Vec<_> = (0..all.len()).filter(|at| keep[*at]).collect();
        assert_eq!(kept, [1, 9]);
    }

    fn backups() -> impl Strategy<Value = Vec<(Timestamp, BackupProof)>> {
        let proof = prop_oneof![
            Just(BackupProof::Unproven),
            Just(BackupProof::Proven),
            Just(BackupProof::Restored)
        ];
        let taken = -200_000_000_i64..4_000_000_000;
        let one = (taken, proof).prop_map(|(second, proof)| {
            (Timestamp::from_second(second / 1801 * 1801).unwrap(), proof)
        });
        proptest::collection::vec(one, 0..60)
    }

    #[test]
    fn each_period_keeps_its_newest_proven_one_and_besides_its_newest_of_the_others() {
        let all = [
            ("2026-11-29T12:00:00Z", BackupProof::Unproven),
            ("2026-11-29T11:00:00Z", BackupProof::Unproven),
            ("2026-11-29T10:00:00Z", BackupProof::Proven),
            ("2026-11-28T12:00:00Z", BackupProof::Unproven),
            ("2026-11-28T11:00:00Z", BackupProof::Restored),
            ("2026-11-28T10:00:00Z", BackupProof::Proven),
            ("2026-11-27T10:00:00Z", BackupProof::Unproven),
            ("2026-11-26T10:00:00Z", BackupProof::Proven),
        ];
        let all = all.map(|(taken, proof)| (at(taken), proof));
        let retention = Retention {
            daily: 2,
            ..Retention::least()
        };
        let keep = retention.keep(&all);
        let kept: Vec<_> = (0..all.len()).filter(|at| keep[*at]).collect();
        assert_eq!(kept, [0, 2, 3, 4]);
    }

    proptest! {
        #[test]
        fn no_unproven_one_takes_the_place_of_a_proven_one(
            all in backups(),
            added in backups(),
            numbers in proptest::array::uniform5(0_usize..6),
        ) {
            let [last, hourly, daily, weekly, monthly] = numbers;
            let retention = Retention { last, hourly, daily, weekly, monthly };
            let before = retention.keep(&all);
            let unproven = added.into_iter().map(|(taken, _)| (taken, BackupProof::Unproven));
            let more: Vec<_> = all.iter().copied().chain(unproven).collect();
            let after = retention.keep(&more);
            for (at, (_, proof)) in all.iter().enumerate() {
                if *proof >= BackupProof::Proven {
                    prop_assert!(after[at] || !before[at], "{at} of {more:?}");
                }
            }
        }

        #[test]
        fn whatever_the_numbers(
            all in backups(),
            numbers in proptest::array::uniform5(0_usize..6),
        ) {
            let [last, hourly, daily, weekly, monthly] = numbers;
            let retention = Retention { last, hourly, daily, weekly, monthly };
            let keep = retention.keep(&all);
            let kept: Vec<_> = all.iter().zip(&keep).filter(|(_, keep)| **keep)
                .map(|(backup, _)| *backup).collect();
            // The newest, and the newest proven one.
            prop_assert_eq!(kept.iter().max(), all.iter().max());
            let proven = |list: &[(Timestamp, BackupProof)]| {
                list.iter().copied().filter(|backup| backup.1 >= BackupProof::Proven).max()
            };
            prop_assert_eq!(proven(&kept), proven(&all));
            // No more than asked for, of either kind.
            let most = last + hourly + daily + weekly + monthly + 1;
            let good = kept.iter().filter(|backup| backup.1 >= BackupProof::Proven).count();
            prop_assert!(good <= most && kept.len() - good <= most);
            // Again: the same.
            prop_assert!(retention.keep(&kept).iter().all(|keep| *keep));
            // In any order: the same.
            let mut turned = all;
            turned.reverse();
            let keep = retention.keep(&turned);
            let mut again: Vec<_> = turned.iter().zip(&keep).filter(|(_, keep)| **keep)
                .map(|(backup, _)| *backup).collect();
            again.sort();
            let mut kept = kept;
            kept.sort();
            prop_assert_eq!(again, kept);
        }
    }
}
