//! Waivers: findings that a person accepts.

use super::Policy;
use crate::{Finding, ObjectName, Severity};

/// A line of `waive` that accepts none of the findings there are.
const UNMATCHED: &str = "KM-POLICY-001";

/// Areas of findings that come from steps after the checks: whether a waiver of
/// theirs is of use, nobody knows before.
const FOUND_LATER: [&str; 2] = ["KM-BACKUP-", "KM-SPREAD-"];

/// What a line of `waive` accepts.
#[derive(Clone, Copy)]
struct Waiver<'a> {
    code: &'a str,
    /// This object alone; without it, whatever the code is found of.
    object: Option<&'a str>,
}

impl<'a> Waiver<'a> {
    fn read(line: &'a str) -> Self {
        match line.trim().split_once(char::is_whitespace) {
            Some((code, object)) => Self {
                code,
                object: Some(object.trim_start()),
            },
            None => Self {
                code: line.trim(),
                object: None,
            },
        }
    }

    fn accepts(self, finding: &Finding) -> bool {
        let is_meant = |object| names(object, &finding.object);
        self.code == finding.code && self.object.is_none_or(is_meant)
    }
}

/// Whether `text` is `KIND NAMESPACE/NAME` of `object`, with or without the kind.
fn names(text: &str, object: &ObjectName) -> bool {
    let whole = object.to_string();
    let bare = whole
        .strip_prefix(&object.kind)
        .and_then(|rest| rest.strip_prefix(' '));
    text == whole || Some(text) == bare
}

impl Policy {
    /// Marks those of `findings` that a person accepts, and only those: by their
    /// codes, or by code and object.
    pub fn mark_waived(&self, findings: &mut [Finding]) {
        for finding in findings {
            let mut waivers = self.waive.iter().map(|line| Waiver::read(line));
            finding.waived = waivers.any(|waiver| waiver.accepts(finding));
        }
    }

    /// A warning for each line of `waive` that accepts none of `findings`, all
    /// that the checks before the start have found: a slip of the hand, or of an
    /// object that has been cured. Findings of backups and of the spread come
    /// after the checks, so that waivers of theirs are never told of; nor are those
    /// of checks that were not made, whose codes begin with one of `not_made`.
    pub fn unmatched_waivers(&self, findings: &[Finding], not_made: &[&str]) -> Vec<Finding> {
        let is_of_no_use = |line: &&String| {
            let waiver = Waiver::read(line);
            let mut unknown = FOUND_LATER.iter().chain(not_made);
            let is_unknown = unknown.any(|area| waiver.code.starts_with(area));
            !is_unknown && !findings.iter().any(|finding| waiver.accepts(finding))
        };
        let lines = self.waive.iter().filter(is_of_no_use);
        lines
            .map(|line| {
                Finding::new(
                    UNMATCHED,
                    Severity::Warning,
                    ObjectName::cluster("Policy", format!("waive {line:?}")),
                    unmatched(Waiver::read(line), findings),
                    "take it out, or name code and object as a finding does: \
                     `KM-HOOK-002 guard`",
                )
            })
            .collect()
    }
}

/// Why a waiver accepts nothing.
fn unmatched(waiver: Waiver<'_>, findings: &[Finding]) -> String {
    let others: Vec<String> = findings
        .iter()
        .filter(|finding| finding.code == waiver.code)
        .map(|finding| finding.object.to_string())
        .collect();
    match others.len() {
        0 => format!("no check has found {}", waiver.code),
        count => format!(
            "{} is found of {count} other objects: {}",
            waiver.code,
            crate::listed(others, 3)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(waive: &[&str]) -> Policy {
        Policy {
            waive: waive.iter().map(|line| (*line).to_owned()).collect(),
            ..Policy::default()
        }
    }

    fn found() -> Vec<Finding> {
        let finding =
            |code: &str, object| Finding::new(code, Severity::Blocker, object, "seen", "cure");
        vec![
            finding(
                "KM-POD-003",
                ObjectName::namespaced("StatefulSet", "default", "web"),
            ),
            finding(
                "KM-POD-003",
                ObjectName::namespaced("StatefulSet", "shop", "web"),
            ),
            finding(
                "KM-POD-001",
                ObjectName::namespaced("StatefulSet", "default", "web"),
            ),
            finding("KM-NODE-001", ObjectName::cluster("Node", "w-1")),
        ]
    }

    fn waived(waive: &[&str]) -> Vec<usize> {
        let mut findings = found();
        policy(waive).mark_waived(&mut findings);
        let numbered = findings.iter().enumerate();
        numbered
            .filter(|(_, f)| f.waived)
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn a_waiver_accepts_a_code_or_a_code_of_one_object() {
        let cases: [(&[&str], &[usize]); 9] = [
            (&["KM-POD-003"], &[0, 1]),
            (&["KM-POD-003 default/web"], &[0]),
            (&["  KM-POD-003   StatefulSet default/web "], &[0]),
            (&["KM-POD-003 shop/web", "KM-NODE-001 w-1"], &[1, 3]),
            (&["KM-NODE-001 Node w-1"], &[3]),
            // Neither a part of a name, nor another kind or namespace.
            (&["KM-POD-003 web", "KM-POD-003 default/we"], &[]),
            (&["KM-POD-003 Node default/web"], &[]),
            (&["KM-POD-00", "", "KM-POD-003 kube-system/web"], &[]),
            (&[], &[]),
        ];
        for (waive, accepted) in cases {
            assert_eq!(waived(waive), accepted, "{waive:?}");
        }
        // What was marked before is no longer.
        let mut findings = found();
        policy(&["KM-NODE-001"]).mark_waived(&mut findings);
        policy(&[]).mark_waived(&mut findings);
        assert!(findings.iter().all(Finding::blocks));
    }

    #[test]
    fn a_waiver_of_nothing_is_told_with_what_it_may_have_meant() {
        let policy = policy(&[
            "KM-BACKUP-001",
            "KM-SPREAD-001",
            "KM-NODE-001",
            "KM-POD-003 default/web",
            "KM-POD-003 default/web-1",
            "KM-NODE-003",
            "KM-LB-002",
        ]);
        let told: Vec<String> = policy
            .unmatched_waivers(&found(), &["KM-LB-"])
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("KM-POLICY-001 warning Policy waive \"KM-NODE-003\""));
        assert!(
            told[0].contains("no check has found KM-NODE-003"),
            "{told:?}"
        );
        assert!(
            told[1].contains("2 other objects: StatefulSet default/web, StatefulSet shop/web"),
            "{told:?}"
        );
    }
}
