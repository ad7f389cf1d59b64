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
    }

    #[test]
    fn mistakes_are_shown_where_they_are() {
        let unknown = policy_from_toml("[pools]\nmax-unavailble = 2\n").unwrap_err();
        assert!(unknown.to_string().contains("max-unavailble"), "{unknown}");
        let bad = policy_from_toml("[pools]\nmax-unavailable = 'many'\n").unwrap_err();
        assert!(bad.to_string().contains("line 2"), "{bad}");
    }
}
