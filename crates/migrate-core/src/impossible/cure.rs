//! What to change so that a budget lets a pod go, in numbers.

use crate::IntOrPercent;

/// The budget lets no pod go whatever their number.
pub(super) fn allow_one(pods: u32) -> String {
    let mut cure = "set maxUnavailable to 1".to_owned();
    if pods == 1 {
        cure.push_str(" (its one pod is then away for a moment; with 2 none is missed)");
    }
    cure
}

/// `minAvailable` asks for all of `pods` pods.
pub(super) fn lower(min_available: IntOrPercent, pods: u32) -> String {
    match min_available {
        IntOrPercent::Int(count) => format!(
            "lower minAvailable to {}, or run {} pods instead of {pods}",
            pods.saturating_sub(1),
            count.saturating_add(1)
        ),
        IntOrPercent::Percent(percent) => {
            let largest = largest_percent(pods);
            let more = match enough_pods(percent) {
                Some(enough) => format!(", or run {enough} pods instead of {pods}"),
                None => String::new(),
            };
            format!("lower minAvailable to {largest}%, or use maxUnavailable: 1{more}")
        }
    }
}

/// The largest percentage that, rounded up, leaves one of `pods` pods free.
fn largest_percent(pods: u32) -> u64 {
    let pods = u64::from(pods.max(1));
    100 * (pods - 1) / pods
}

/// The smallest number of pods of which `percent`, rounded up, leaves one free.
fn enough_pods(percent: u32) -> Option<u32> {
    let free = 100u32.checked_sub(percent).filter(|&free| free > 0)?;
    Some(100u32.div_ceil(free))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_numbers_are_the_exact_limits(pods in 1u32..5000, percent in 0u32..130) {
            let leaves_one = |percent: u64, pods: u32| {
                let percent = u32::try_from(percent).unwrap();
                IntOrPercent::Percent(percent).resolve_up(pods) < pods
            };
            let largest = largest_percent(pods);
            prop_assert!(leaves_one(largest, pods));
            prop_assert!(!leaves_one(largest + 1, pods));
            match enough_pods(percent) {
                Some(enough) => {
                    prop_assert!(leaves_one(percent.into(), enough));
                    prop_assert!(enough == 1 || !leaves_one(percent.into(), enough - 1));
                }
                None => prop_assert!(!leaves_one(percent.into(), pods)),
            }
        }
    }
}
