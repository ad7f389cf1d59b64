//! Addons: what is upgraded at points of a run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::Point;

/// An addon that is upgraded at a point of the run, such as a CNI or CSI driver.
///
/// Who composes the steps in code ([`UpgradeAddons`](crate::UpgradeAddons))
/// needs no programs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Addon {
    /// Its name: lower-case letters, digits and `-`.
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// When it is upgraded.
    pub at: Point,
    /// The program that upgrades it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apply: Option<PathBuf>,
    /// The program that says whether it works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<PathBuf>,
    /// The program that takes it back. Nothing runs it: it is named in plan and
    /// report, for a person. Without one the addon is a point of no return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<PathBuf>,
    /// How long its upgrade may take, and then its verification.
    #[serde(default = "timeout", with = "super::seconds")]
    pub timeout: Duration,
}

impl Addon {
    /// The addon `name`, upgraded at `at`, with 15 minutes for each of its
    /// phases.
    pub fn new(name: impl Into<String>, at: Point) -> Self {
        Self {
            name: name.into(),
            at,
            apply: None,
            verify: None,
            undo: None,
            timeout: timeout(),
        }
    }

    /// In one line, how it is taken back.
    pub fn way_back(&self) -> String {
        match &self.undo {
            Some(undo) => format!("undo: {}", undo.display()),
            None => "POINT OF NO RETURN: no undo is named".to_owned(),
        }
    }
}

const fn timeout() -> Duration {
    Duration::from_secs(15 * 60)
}

fn name<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let name = String::deserialize(d)?;
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || !name.chars().all(is_allowed) {
        let message = format!("the addon name {name:?} is not of a-z, 0-9 and -");
        return Err(D::Error::custom(message));
    }
    Ok(name)
}

pub(super) fn unique<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Addon>, D::Error> {
    let addons = Vec::<Addon>::deserialize(d)?;
    let mut names = BTreeSet::new();
    match addons.iter().find(|addon| !names.insert(&addon.name)) {
        Some(twice) => Err(D::Error::custom(format!(
            "two addons are named {}; give each a name of its own",
            twice.name
        ))),
        None => Ok(addons),
    }
}

#[cfg(test)]
mod tests {
    use crate::Policy;

    #[test]
    fn names_are_plain_and_unique() {
        let read =
            |addons: &str| serde_json::from_str::<Policy>(&format!(r#"{{"addon": {addons}}}"#));
        let one = r#"{"name": "calico", "at": "after-control-plane"}"#;
        assert_eq!(
            read(&format!("[{one}]")).unwrap().addons[0]
                .timeout
                .as_secs(),
            900
        );
        let twice = read(&format!("[{one}, {one}]")).unwrap_err().to_string();
        assert!(twice.contains("two addons are named calico"), "{twice}");
        let slash = r#"[{"name": "../calico", "at": "after-all"}]"#;
        let slash = read(slash).unwrap_err().to_string();
        assert!(slash.contains("not of a-z"), "{slash}");
    }
}
