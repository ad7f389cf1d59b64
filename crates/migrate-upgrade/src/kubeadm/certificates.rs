//! Which certificates of a control plane an upgrade has renewed. Pure.

use std::collections::BTreeMap;

use migrate_core::{Finding, ObjectName, Severity};

use super::survey::{Certificate, certificates};

const RENEWED: &str = "KM-KUBEADM-034";
const NOT_RENEWED: &str = "KM-KUBEADM-035";

/// The certificates of a node before the first attempt of a member's step changed
/// anything, and once it had ended well; names and ends, nothing secret.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Renewals {
    /// Whether the step has looked at all.
    looked: bool,
    /// Absent where kubeadm did not tell.
    before: Option<Vec<Certificate>>,
    after: Option<Vec<Certificate>>,
}

impl Renewals {
    /// Takes what the step has written down `when`: `before` or `after`.
    pub(super) fn read(&mut self, when: &str, json: &str) {
        self.looked = true;
        match when {
            "before" => self.before = certificates(json),
            _ => self.after = certificates(json),
        }
    }

    /// What a person may want to know of it: information, and nothing of a step
    /// that did not look. Authorities are left out, which no upgrade renews.
    pub(super) fn findings(&self, node: &str) -> Vec<Finding> {
        if !self.looked {
            return Vec::new();
        }
        let finding = |code, evidence, cure| {
            let object = ObjectName::cluster("Node", node);
            Finding::new(code, Severity::Info, object, evidence, cure)
        };
        let (Some(before), Some(after)) = (&self.before, &self.after) else {
            return vec![finding(
                NOT_RENEWED,
                "which certificates were renewed is not known: `kubeadm certs check-expiration` \
                 did not answer before and after the upgrade"
                    .to_owned(),
                "run it on the node and see when they end",
            )];
        };
        let old: BTreeMap<&str, &Certificate> = before
            .iter()
            .map(|certificate| (certificate.name.as_str(), certificate))
            .collect();
        let (mut renewed, mut left) = (Vec::new(), Vec::new());
        for new in after.iter().filter(|new| !new.is_authority) {
            let Some(old) = old.get(new.name.as_str()) else {
                continue;
            };
            let (name, end) = (&new.name, &new.expires);
            if old.expires != *end {
                renewed.push(format!("{name} ({} to {end})", old.expires));
            } else if new.external {
                left.push(format!(
                    "{name} (ends {end}; its authority's key is not here)"
                ));
            } else {
                left.push(format!("{name} (ends {end}; left as it was)"));
            }
        }
        let mut found = Vec::new();
        if !renewed.is_empty() {
            found.push(finding(
                RENEWED,
                format!("kubeadm renewed {}", renewed.join(", ")),
                "nothing here; a copy of admin.conf elsewhere still ends when it did before",
            ));
        }
        if !left.is_empty() {
            found.push(finding(
                NOT_RENEWED,
                format!("the upgrade did not renew {}", left.join(", ")),
                "before they end `kubeadm certs renew`, or renew them where their authority's key \
                 is",
            ));
        }
        found
    }
}
