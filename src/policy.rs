//! `policy.toml`.

use migrate_core::Policy;

/// What is wrong with a `policy.toml`: line, key and what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{}\ncorrect it as in docs/policy.toml", .0.to_string().trim_end())]
pub struct PolicyError(#[from] toml::de::Error);

/// Reads a policy; every key may be left out, an unknown one is refused.
///
/// # Errors
/// [`PolicyError`] shows the line and what was expected there.
pub fn policy_from_toml(text: &str) -> Result<Policy, PolicyError> {
    Ok(toml::from_str(text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_policy_is_the_default_one() {
        let documented = include_str!("../docs/policy.toml");
        assert_eq!(policy_from_toml(documented).unwrap(), Policy::default());
        assert_eq!(policy_from_toml("").unwrap(), Policy::default());
        // A key that is missing there would have its default too.
        let keys: serde_json::Value = toml::from_str(documented).unwrap();
        assert_eq!(keys, serde_json::to_value(Policy::default()).unwrap());
    }

    #[test]
    fn the_documented_forms_of_a_window_are_read() {
        let text = r#"[rollout]
            windows = [
                { days = ["sat", "sun"], from = "22:00", to = "04:00" },
                { from = "2026-12-19T08:00Z", to = "2026-12-19T18:00Z" },
            ]"#;
        let policy = policy_from_toml(text).unwrap();
        assert_eq!(policy.rollout.windows.len(), 2);
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let unknown = policy_from_toml("[pools]\nmax-unavailble = 2\n").unwrap_err();
        assert!(unknown.to_string().contains("max-unavailble"), "{unknown}");
        let window = "[rollout]\nwindows = [{ from = '22:00', to = '4 am' }]\n";
        let window = policy_from_toml(window).unwrap_err().to_string();
        assert!(
            window.contains("line 2") && window.contains("as 22:00"),
            "{window}"
        );
        let none = policy_from_toml("[deadlines]\nrequest = 0\n").unwrap_err();
        let none = none.to_string();
        assert!(
            none.contains("request = 0") && none.contains("1 to 31536000 seconds"),
            "{none}"
        );
        let bad = policy_from_toml("[pools]\nmax-unavailable = 'many'\n").unwrap_err();
        assert!(bad.to_string().contains("line 2"), "{bad}");
    }
}
