//! Which policies are the same.

use super::Policy;
use crate::content_hash;

impl Policy {
    /// The hash of what it says, as plans have it.
    ///
    /// # Guarantees
    /// Equal for policies that differ in nothing that has a meaning: in what order windows and
    /// blackouts are written, and whether one is written twice, has none. The order of addons, of
    /// the stages of a ramp and of the words of a command has.
    #[must_use]
    pub fn identity(&self) -> String {
        let mut ordered = self.clone();
        let rollout = &mut ordered.rollout;
        for periods in [&mut rollout.windows, &mut rollout.blackouts] {
            periods.sort();
            periods.dedup();
        }
        content_hash(&ordered)
    }

    /// Whether `hash` is that of this policy: its [`identity`](Self::identity), or, as plans of
    /// earlier releases have it, the hash of all as it was written.
    #[must_use]
    pub fn has_identity(&self, hash: &str) -> bool {
        hash == self.identity() || hash == content_hash(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(windows: &str) -> Policy {
        let mut policy = Policy::default();
        policy.rollout.windows = serde_json::from_str(windows).unwrap();
        policy.rollout.blackouts = policy.rollout.windows.clone();
        policy
    }

    #[test]
    fn the_order_of_windows_is_no_part_of_it() {
        let (day, night) = (
            r#"{"from": "09:00", "to": "11:00"}"#,
            r#"{"days": ["sat"], "from": "20:00", "to": "02:00"}"#,
        );
        let one = with(&format!("[{day}, {night}]"));
        let other = with(&format!("[{night}, {day}, {night}]"));
        assert_eq!(one.identity(), other.identity());
        for policy in [&one, &other] {
            assert!(policy.has_identity(&one.identity()));
            assert!(policy.has_identity(&content_hash(policy)));
        }
        let less = with(&format!("[{day}]"));
        assert_ne!(one.identity(), less.identity());
        assert!(!less.has_identity(&one.identity()));
        // What earlier releases wrote of most policies is what this one does.
        assert_eq!(
            Policy::default().identity(),
            content_hash(&Policy::default())
        );
    }

    #[test]
    fn the_order_of_stages_is_a_part_of_it() {
        let ramp = |stages: [u32; 2]| {
            let mut policy = Policy::default();
            policy.pools.ramp = stages.into();
            policy.identity()
        };
        assert_ne!(ramp([4, 20]), ramp([20, 4]));
    }
}
