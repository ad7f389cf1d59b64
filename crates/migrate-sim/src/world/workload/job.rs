//! Jobs: pods that run to their end.

use std::collections::{BTreeMap, BTreeSet};

use super::{active_pods, pod_from_template, set_counts};
use crate::object::{
    Condition, bool_at, condition_is_true, int_at, is_terminating, phase, remove_at, set_at,
    set_condition, str_at, timestamp,
};
use crate::store::{Object, Resource};
use crate::world::context::Context;
use crate::world::work::Key;

/// Runs pods to completion.
///
/// A pod that is deleted before its end does not count as failed; it is
/// replaced, as if its Job had a pod failure policy that ignores disruptions.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    /// Pods of a Job that have ended, so that a pod counts once and for ever.
    ended: BTreeMap<String, Ended>,
}

#[derive(Debug, Default)]
struct Ended {
    succeeded: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Jobs {
    /// Looks at one Job.
    pub(crate) fn sync(&mut self, cx: &mut Context<'_>, key: &Key) {
        let Some(job) = cx.get(Resource::JOBS, key) else {
            return;
        };
        if is_terminating(&job.json) {
            return;
        }
        let ended = self.ended.entry(job.uid().to_owned()).or_default();
        for pod in cx.pods_of(job.uid()) {
            match phase(&pod.json) {
                "Succeeded" => ended.succeeded.insert(pod.uid().to_owned()),
                "Failed" => ended.failed.insert(pod.uid().to_owned()),
                _ => false,
            };
        }
        let count = |set: &BTreeSet<String>| i64::try_from(set.len()).unwrap_or(i64::MAX);
        let (succeeded, failed) = (count(&ended.succeeded), count(&ended.failed));
        let is_over =
            condition_is_true(&job.json, "Complete") || condition_is_true(&job.json, "Failed");
        let completions = int_at(&job.json, &["spec", "completions"]).unwrap_or(1);
        let backoff = int_at(&job.json, &["spec", "backoffLimit"]).unwrap_or(6);
        let has_failed = failed > backoff;
        if !is_over {
            let wanted = if has_failed || bool_at(&job.json, &["spec", "suspend"]) {
                0
            } else {
                let parallelism = int_at(&job.json, &["spec", "parallelism"]).unwrap_or(1);
                parallelism.min(completions - succeeded)
            };
            scale(cx, &job, wanted);
        }
        let pods = active_pods(cx, job.uid());
        let ready = pods.iter().filter(|pod| pod.is_ready()).count();
        let (active, now) = (i64::try_from(pods.len()).unwrap_or(i64::MAX), cx.now);
        cx.modify(Resource::JOBS, key, |job| {
            set_counts(
                job,
                &[
                    ("active", active),
                    ("succeeded", succeeded),
                    ("failed", failed),
                ],
            );
            set_at(job, &["status", "ready"], ready);
            if str_at(job, &["status", "startTime"]).is_empty() {
                set_at(job, &["status", "startTime"], timestamp(now));
            }
            if is_over {
                return;
            }
            if succeeded >= completions {
                set_at(job, &["status", "completionTime"], timestamp(now));
                let reason = "CompletionsReached";
                let message = "Reached expected number of succeeded pods";
                set_condition(
                    job,
                    Condition::new("SuccessCriteriaMet", "True").because(reason, message),
                    now,
                );
                set_condition(
                    job,
                    Condition::new("Complete", "True").because(reason, message),
                    now,
                );
            } else if has_failed {
                let message = "Job has reached the specified backoff limit";
                set_condition(
                    job,
                    Condition::new("Failed", "True").because("BackoffLimitExceeded", message),
                    now,
                );
                remove_at(job, &["status", "completionTime"]);
            }
        });
    }

    /// Forgets a Job that is gone.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.ended.remove(uid);
    }
}

fn scale(cx: &mut Context<'_>, job: &Object, wanted: i64) {
    let pods = active_pods(cx, job.uid());
    let wanted = usize::try_from(wanted).unwrap_or_default();
    for _ in pods.len()..wanted {
        let mut pod = pod_from_template(job);
        set_at(
            &mut pod,
            &["metadata", "generateName"],
            format!("{}-", job.name),
        );
        for key in ["batch.kubernetes.io/job-name", "job-name"] {
            set_at(&mut pod, &["metadata", "labels", key], job.name.as_str());
        }
        set_at(
            &mut pod,
            &["metadata", "labels", "batch.kubernetes.io/controller-uid"],
            job.uid(),
        );
        if cx.create(Resource::PODS, pod).is_none() {
            return;
        }
    }
    for pod in pods.iter().skip(wanted) {
        cx.delete(Resource::PODS, &Key::of(pod));
    }
}
