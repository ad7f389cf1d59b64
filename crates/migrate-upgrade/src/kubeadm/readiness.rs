//! Before anything starts: packages and images on every node.

use std::collections::BTreeMap;

use futures::StreamExt;
use migrate_core::{Clock, Finding, KubeVersion, Moment, ObjectName, Severity};

use super::{BINARIES, COMMON, FILES, Kubeadm, PACKAGES, release};
use crate::unit::redacted;
use crate::{Error, Script};

const RESOLVE: &str = include_str!("resolve.sh");
const IMAGES: &str = include_str!("images.sh");
/// The packages that an upgrade installs.
const NAMES: [&str; 3] = ["kubeadm", "kubelet", "kubectl"];
/// How many nodes are asked at a time.
const WIDTH: usize = 8;

const NO_PACKAGE: &str = "KM-KUBEADM-001";
const NO_IMAGE: &str = "KM-KUBEADM-002";
const NO_ANSWER: &str = "KM-KUBEADM-003";
const UNFIT: &str = "KM-KUBEADM-030";
const OTHER_WAY: &str = "KM-KUBEADM-031";
const NO_ROOM: &str = "KM-KUBEADM-032";

/// Whether nodes have what an upgrade needs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
#[must_use = "an unread report is not actionable"]
pub struct Readiness {
    /// What is missing where, blockers; and what little room images would leave,
    /// warnings.
    pub findings: Vec<Finding>,
    /// What was found, by node: the version of each package by its name, or
    /// the names of images with `present` or `pulled`.
    pub nodes: BTreeMap<String, BTreeMap<String, String>>,
}

/// Plain programs were asked for where there are packages.
pub(super) fn managed(node: &str, name: &str, owner: &str) -> Finding {
    Finding::new(
        OTHER_WAY,
        Severity::Blocker,
        ObjectName::cluster("Node", node),
        format!("plain programs were asked for, and {name} belongs to the package {owner}"),
        "upgrade by packages, or remove that package and put the program in its place",
    )
}

/// Packages were asked for where there are plain programs.
pub(super) fn unmanaged(node: &str, name: &str, place: &str) -> Finding {
    Finding::new(
        OTHER_WAY,
        Severity::Blocker,
        ObjectName::cluster("Node", node),
        format!("{name} at {place} belongs to no package"),
        "name where plain programs come from (--binaries), or install the packages",
    )
}

impl Kubeadm {
    /// Which package versions `nodes` would install for `target`. Brings the
    /// nodes' package lists up to date and changes nothing else; with
    /// [plain programs](Self::with_binaries) it brings these to the nodes, verified,
    /// beside what is installed.
    pub async fn resolve(&self, nodes: &[String], target: &KubeVersion) -> Readiness {
        let version = release(target).unwrap_or_else(|| target.to_string());
        let text = match self.options.binaries {
            None => format!("{COMMON}\n{PACKAGES}\n{RESOLVE}\nresolve_all \"$@\"\n"),
            Some(_) => {
                format!("{FILES}\n{COMMON}\n{PACKAGES}\n{BINARIES}\nfetch_all \"$@\"\n")
            }
        };
        let state = self.options.binaries.as_ref().map(|_| &self.layout.state);
        let script = Script::new(text)
            .args(state)
            .args([&version, self.options.source()])
            .args(NAMES);
        self.ask(nodes, &script, |node, line, readiness| match line {
            ["package", name, version] => readiness.note(node, name, version),
            ["missing", name, known @ ..] => readiness.findings.push(Finding::new(
                NO_PACKAGE,
                Severity::Blocker,
                ObjectName::cluster("Node", node),
                format!(
                    "apt has no {name} for {target}; `apt-cache madison {name}` names {}",
                    if known.is_empty() {
                        "nothing".to_owned()
                    } else {
                        known.join(" ")
                    }
                ),
                "add the package repository of that minor version on the node, with its key",
            )),
            ["unfit", name, reason @ ..] => readiness.findings.push(Finding::new(
                UNFIT,
                Severity::Blocker,
                ObjectName::cluster("Node", node),
                format!(
                    "{name} of {target} cannot be used: {}",
                    redacted(&reason.join(" "))
                ),
                "put the program there with its checksum beside it, both whole",
            )),
            ["managed", name, owner @ ..] => {
                readiness
                    .findings
                    .push(managed(node, name, &owner.join(" ")));
            }
            ["unmanaged", name, place] => readiness.findings.push(unmanaged(node, name, place)),
            _ => {}
        })
        .await
    }

    /// Pulls the images that `target` needs on `nodes`, those of the control
    /// plane on its members only. Needs `crictl` to pull; images that are
    /// there already (`ctr -n k8s.io images ls`) are left alone, and a node that
    /// has no room for those that are missing pulls none. Installs nothing:
    /// kubeadm of the target is unpacked beside the installed one.
    pub async fn pre_pull(&self, nodes: &[String], target: &KubeVersion) -> Readiness {
        let programs = self.options.programs();
        let text =
            format!("{FILES}\n{COMMON}\n{PACKAGES}\n{IMAGES}\n{programs}\npull_images \"$@\"\n");
        let script = Script::new(text)
            .args([&self.layout.root, &self.layout.state])
            .arg(release(target).unwrap_or_else(|| target.to_string()))
            .arg(self.options.source());
        self.ask(nodes, &script, |node, line, readiness| match line {
            [state @ ("present" | "pulled"), image] => readiness.note(node, image, state),
            ["missing", image] => readiness.findings.push(Finding::new(
                NO_IMAGE,
                Severity::Blocker,
                ObjectName::cluster("Node", node),
                format!("the image {image} is not on the node and could not be pulled"),
                "see that the registry is in reach and crictl installed, or import the image",
            )),
            ["no-room", needed, free, folder] => readiness.findings.push(Finding::new(
                NO_ROOM,
                Severity::Blocker,
                ObjectName::cluster("Node", node),
                format!(
                    "the images that it misses may take {}, and {folder} has {} left: none was \
                     pulled",
                    mebibytes(needed),
                    mebibytes(free)
                ),
                "make room there, or import the images",
            )),
            ["little-room", needed, free, percent, folder] => {
                readiness.findings.push(Finding::new(
                    NO_ROOM,
                    Severity::Warning,
                    ObjectName::cluster("Node", node),
                    format!(
                        "the images that it misses may take {} of the {} left in {folder}: from \
                         {percent} % on its kubelet clears away images that nothing uses yet",
                        mebibytes(needed),
                        mebibytes(free)
                    ),
                    "make room there, so that what is pulled now is there when it is needed",
                ));
            }
            _ => {}
        })
        .await
    }

    /// Runs `script` on all nodes and hands each line of the answers, split
    /// into words, to `read`. A node that does not answer is a finding.
    async fn ask(
        &self,
        nodes: &[String],
        script: &Script,
        read: impl Fn(&str, &[&str], &mut Readiness),
    ) -> Readiness {
        let (answers, findings) = self.answers(nodes, script, &|| Moment::EPOCH).await;
        let mut readiness = Readiness {
            findings,
            ..Readiness::default()
        };
        for Answer { node, text, .. } in answers {
            for line in text.lines() {
                let words: Vec<&str> = line.split_whitespace().collect();
                read(&node, &words, &mut readiness);
            }
        }
        readiness
    }

    /// What `script` prints on each of the nodes, in their order, and a finding
    /// for each node where it failed; what that one printed counts all the same.
    pub(super) async fn answers(
        &self,
        nodes: &[String],
        script: &Script,
        clock: &dyn Clock,
    ) -> (Vec<Answer>, Vec<Finding>) {
        let mut all = futures::stream::iter(nodes.to_vec())
            .map(|node| async move {
                let limit = self.options.preparation;
                let asked = clock.now();
                let answer = self.shell.run(&node, script, limit).await;
                (node, answer, asked, clock.now())
            })
            .buffered(WIDTH);
        let (mut answers, mut findings) = (Vec::new(), Vec::new());
        while let Some((node, answer, asked, answered)) = all.next().await {
            match answer {
                Ok(output) => {
                    answers.push(Answer {
                        node: node.clone(),
                        text: output.stdout,
                        asked,
                        answered,
                    });
                    if output.code != 0 {
                        let said = output.stderr.trim().to_owned();
                        findings.push(no_answer(&Error::BadAnswer { node, said }));
                    }
                }
                Err(error) => findings.push(no_answer(&error)),
            }
        }
        (answers, findings)
    }
}

/// What a node has printed.
pub(super) struct Answer {
    pub(super) node: String,
    pub(super) text: String,
    /// When it was asked.
    pub(super) asked: Moment,
    /// When the answer was there.
    pub(super) answered: Moment,
}

impl Readiness {
    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        !self.findings.iter().any(Finding::blocks)
    }

    fn note(&mut self, node: &str, name: &str, value: &str) {
        self.nodes
            .entry(node.to_owned())
            .or_default()
            .insert(name.to_owned(), value.to_owned());
    }
}

/// KiB as a node prints them, for people.
fn mebibytes(kib: &str) -> String {
    match kib.parse::<u64>() {
        Ok(kib) => format!("{} MiB", kib / 1024),
        Err(_) => format!("{kib} KiB"),
    }
}

fn no_answer(error: &Error) -> Finding {
    Finding::new(
        NO_ANSWER,
        Severity::Blocker,
        ObjectName::cluster("Kubeadm", "readiness"),
        error.to_string(),
        "cure what it says, then look again",
    )
}
