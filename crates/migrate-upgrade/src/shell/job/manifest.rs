//! The Job that runs one script on one node.

use std::time::Duration;

use migrate_core::model::STEP_LABEL;
use serde_json::{Value, json};

use super::super::Script;
use super::frame;
use crate::Error;

/// The container's name.
pub(super) const CONTAINER: &str = "script";
/// The value of [`STEP_LABEL`] of every Job made here.
const KIND: &str = "shell";
/// How much longer than its script a Job may live when nobody is left to remove
/// it.
const MARGIN: Duration = Duration::from_secs(30);
/// How long the API keeps a Job that has ended and that nobody has removed.
const KEPT: Duration = Duration::from_secs(300);
/// Seconds; the API refuses more.
const LONGEST_DEADLINE: u64 = i32::MAX as u64;
/// One byte more, its end, is as long as Linux lets a word of a command be.
const LONGEST_WORD: usize = (128 << 10) - 1;
/// All words together: the Job and its pod are kept by etcd, which refuses what
/// is longer than 1.5 MiB.
const LONGEST: usize = 512 << 10;

/// Becomes the script on the node: the container's own programs end here.
/// `hostPID`, `hostIPC` and `hostNetwork` have brought us into the other
/// namespaces; entering them again is for what a runtime may still keep apart.
const ENTER: [&str; 9] = ["nsenter", "-t", "1", "-m", "-u", "-i", "-n", "--", "bash"];

/// The Job for `script`, which may take `limit`.
pub(super) fn job(
    node: &str,
    image: &str,
    script: &Script,
    limit: Duration,
) -> Result<Value, Error> {
    let text = script.stdin();
    let mark = frame::mark(script);
    let mut args = vec!["-c", frame::WRAPPER, "kube-migrate", &mark, &text];
    args.extend(script.arguments().iter().map(String::as_str));
    let longest = args.iter().map(|word| word.len()).max().unwrap_or_default();
    let args: Vec<String> = args.into_iter().map(escaped).collect();
    let all: usize = args.iter().map(String::len).sum();
    if longest > LONGEST_WORD || all > LONGEST {
        return Err(Error::ScriptTooLong {
            node: node.to_owned(),
            reason: format!(
                "its longest word has {longest} bytes of at most {LONGEST_WORD}, all have {all} \
                 of at most {LONGEST}"
            ),
        });
    }
    let labels = json!({ STEP_LABEL: KIND });
    let deadline = limit.saturating_add(MARGIN).as_secs();
    let deadline = deadline.saturating_add(1).min(LONGEST_DEADLINE);
    Ok(json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": { "generateName": "kube-migrate-", "labels": labels },
        "spec": {
            "activeDeadlineSeconds": deadline,
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": KEPT.as_secs(),
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "activeDeadlineSeconds": deadline,
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": CONTAINER,
                        "image": image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ENTER,
                        "args": args,
                        // Of the image only the program that leaves it counts.
                        "env": [{ "name": "PATH", "value": PATH }],
                        "securityContext": { "privileged": true, "runAsUser": 0 },
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                    }],
                    "enableServiceLinks": false,
                    "hostIPC": true,
                    "hostNetwork": true,
                    "hostPID": true,
                    "nodeName": node,
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "tolerations": [{ "operator": "Exists" }],
                },
            },
        },
    }))
}

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A word that the kubelet, which replaces `$(NAME)` and makes one of two `$`,
/// turns into `word` again.
fn escaped(word: &str) -> String {
    word.replace('$', "$$")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a kubelet makes of an argument, after
    /// `k8s.io/kubernetes/third_party/forked/golang/expansion`; every variable
    /// that it knows is called NAME.
    fn expanded(word: &str) -> String {
        let mut out = String::new();
        let mut rest = word;
        while let Some(at) = rest.find('$') {
            let (before, from) = rest.split_at(at);
            out.push_str(before);
            let after = &from[1..];
            match after.chars().next() {
                Some('$') => {
                    out.push('$');
                    rest = &after[1..];
                }
                Some('(') => match after.find(')') {
                    Some(end) => {
                        let name = &after[1..end];
                        match name {
                            "NAME" => out.push_str("value"),
                            _ => out.push_str(&from[..=end + 1]),
                        }
                        rest = &after[end + 1..];
                    }
                    None => {
                        out.push_str("$(");
                        rest = &after[1..];
                    }
                },
                Some(other) => {
                    out.push('$');
                    out.push(other);
                    rest = &after[other.len_utf8()..];
                }
                None => {
                    out.push('$');
                    rest = after;
                }
            }
        }
        out + rest
    }

    #[test]
    fn a_kubelet_replaces_what_is_not_escaped() {
        assert_eq!(
            expanded("$(NAME) $$(NAME) $(x) $x $$ $"),
            "value $(NAME) $(x) $x $ $"
        );
    }

    proptest! {
        #[test]
        fn every_word_comes_through_the_kubelet(word in r"([a$]|\$\(NAME\)|[$(){}]|\PC){0,20}") {
            prop_assert_eq!(expanded(&escaped(&word)), word);
        }
    }

    fn make(script: &Script) -> Result<Value, Error> {
        job("n", "image", script, Duration::from_secs(45))
    }

    #[test]
    fn a_script_that_no_kernel_takes_is_refused() {
        let script = |length| Script::new("true").arg("x".repeat(length));
        assert!(make(&script(LONGEST_WORD)).is_ok());
        let error = make(&script(LONGEST_WORD + 1)).unwrap_err();
        assert!(matches!(error, Error::ScriptTooLong { .. }), "{error}");
        let long = Script::new("true").args(vec!["x".repeat(100_000); 6]);
        assert!(matches!(make(&long), Err(Error::ScriptTooLong { .. })));
    }

    #[test]
    fn the_job_is_bound_and_bounded() {
        let job = make(&Script::new("echo $HOME").arg("a $(b)")).unwrap();
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["nodeName"], "n");
        assert_eq!(pod["tolerations"], json!([{ "operator": "Exists" }]));
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["hostPID"], true);
        assert_eq!(job["spec"]["backoffLimit"], 0);
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 76);
        for labels in [&job, &job["spec"]["template"]] {
            assert_eq!(labels["metadata"]["labels"][STEP_LABEL], KIND);
        }
        let args = pod["containers"][0]["args"].as_array().unwrap();
        assert_eq!(args.last().unwrap(), "a $$(b)");
    }
}
