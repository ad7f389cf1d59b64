//! Workloads behind Services whose pods lose requests when they are moved, however
//! carefully: what a drain cannot make up for.

use std::collections::BTreeMap;

use kube::Client;
use migrate_core::{Finding, ObjectName, Severity};
use migrate_kube::{Selection, list};

use super::{Answer, codes, names};
use crate::objects::{Deployment, Handler, PodTemplate, Service, StatefulSet};

/// How long a pod has to go on after it was told to end, in seconds: until the proxies
/// of every node have heard that it does. They took 5 to 8 s on nodes that were busy,
/// less than one on idle ones (docs/kubeadm.md, *Measured*).
const PROXIES: u64 = 10;

/// A workload whose pods a drain moves, by kind and name.
struct Runner<'a> {
    kind: &'static str,
    namespace: &'a str,
    name: &'a str,
    template: &'a PodTemplate,
}

/// Labels by which Services choose pods: namespace, one label of the selector → the
/// selectors that have it. Each is under one label alone, so that looking up a
/// workload costs its labels and what they find.
type Selectors<'a> = BTreeMap<(&'a str, &'a str, &'a str), Vec<&'a BTreeMap<String, String>>>;

/// Findings about Deployments and StatefulSets behind Services. `deployments` are
/// read by another check too.
pub(crate) async fn check(client: &Client, deployments: &[Deployment]) -> Answer {
    let all = Selection::all();
    let (services, sets) = futures::try_join!(
        list::<Service>(client, &all),
        list::<StatefulSet>(client, &all)
    )?;
    Ok(judge(&services, deployments, &sets))
}

fn judge(services: &[Service], deployments: &[Deployment], sets: &[StatefulSet]) -> Vec<Finding> {
    let selectors = selectors(services);
    let deployments = deployments.iter().filter(|it| it.spec.replicas != Some(0));
    let deployments = deployments.map(|it| runner("Deployment", &it.metadata, &it.spec.template));
    let sets = sets.iter().filter(|it| it.spec.replicas != Some(0));
    let sets = sets.map(|it| runner("StatefulSet", &it.metadata, &it.spec.template));
    let mut findings = Vec::new();
    let (mut abrupt, mut blind) = (Names::new(), Names::new());
    for runner in deployments.chain(sets) {
        if !is_chosen(&runner, &selectors) {
            continue;
        }
        let shown = format!("{} {}", runner.kind, runner.name);
        let containers = &runner.template.spec.containers;
        let is_asked = containers.iter().any(|it| it.readiness_probe.is_some());
        if !is_asked {
            blind
                .entry(runner.namespace)
                .or_default()
                .push(shown.clone());
        }
        match longest_pause(runner.template) {
            Pause::Unknown => {}
            Pause::Seconds(seconds) if seconds < PROXIES => {
                let shown = match seconds {
                    0 => shown,
                    seconds => format!("{shown} ({seconds} s)"),
                };
                abrupt.entry(runner.namespace).or_default().push(shown);
            }
            Pause::Seconds(seconds) => findings.extend(cut_off(&runner, seconds)),
        }
    }
    findings.extend(
        abrupt
            .iter()
            .map(|(namespace, names)| ends_at_once(namespace, names)),
    );
    findings.extend(
        blind
            .iter()
            .map(|(namespace, names)| never_asked(namespace, names)),
    );
    findings
}

/// Workloads by namespace.
type Names<'a> = BTreeMap<&'a str, Vec<String>>;

fn runner<'a>(
    kind: &'static str,
    metadata: &'a kube::api::ObjectMeta,
    template: &'a PodTemplate,
) -> Runner<'a> {
    Runner {
        kind,
        namespace: metadata.namespace.as_deref().unwrap_or_default(),
        name: metadata.name.as_deref().unwrap_or_default(),
        template,
    }
}

fn selectors(services: &[Service]) -> Selectors<'_> {
    let mut found = Selectors::new();
    // No proxy stands before a headless one, and an ExternalName has no pods.
    let proxied = services.iter().filter(|service| {
        let spec = &service.spec;
        spec.cluster_ip.as_deref() != Some("None") && spec.kind.as_deref() != Some("ExternalName")
    });
    for service in proxied {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        if let Some((key, value)) = service.spec.selector.first_key_value() {
            let of_label = found.entry((namespace, key, value)).or_default();
            of_label.push(&service.spec.selector);
        }
    }
    found
}

fn is_chosen(runner: &Runner<'_>, selectors: &Selectors<'_>) -> bool {
    let labels = &runner.template.metadata.labels;
    labels.iter().any(|(key, value)| {
        let found = selectors.get(&(runner.namespace, key.as_str(), value.as_str()));
        let matches = |selector: &&BTreeMap<String, String>| {
            selector
                .iter()
                .all(|(key, value)| labels.get(key) == Some(value))
        };
        found.into_iter().flatten().any(matches)
    })
}

/// How long a hook goes on.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Pause {
    Seconds(u64),
    /// A program or a request of its own: what it does is not known.
    Unknown,
}

/// Hooks of a pod run at the same time; a pod without one has none to wait for.
fn longest_pause(template: &PodTemplate) -> Pause {
    let hooks = template.spec.containers.iter().filter_map(|container| {
        let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
        Some(pause(hook))
    });
    hooks.max().unwrap_or(Pause::Seconds(0))
}

fn pause(hook: &Handler) -> Pause {
    if let Some(sleep) = &hook.sleep {
        return Pause::Seconds(u64::try_from(sleep.seconds).unwrap_or(0));
    }
    let slept = hook.exec.as_ref().and_then(|exec| slept(&exec.command));
    slept.map_or(Pause::Unknown, Pause::Seconds)
}

/// Seconds of a command that sleeps, by itself or in a shell; none if it does
/// anything else too.
fn slept(command: &[String]) -> Option<u64> {
    let shells = ["sh", "bash", "/bin/sh", "/bin/bash"];
    let words: Vec<&str> = match command {
        [shell, flag, line] if shells.contains(&shell.as_str()) && flag == "-c" => {
            line.split_whitespace().collect()
        }
        words => words.iter().map(String::as_str).collect(),
    };
    match words.as_slice() {
        ["sleep" | "/bin/sleep" | "/usr/bin/sleep", seconds] => {
            seconds.strip_suffix('s').unwrap_or(seconds).parse().ok()
        }
        _ => None,
    }
}

fn ends_at_once(namespace: &str, workloads: &[String]) -> Finding {
    Finding::new(
        codes::ENDS_AT_ONCE,
        Severity::Warning,
        ObjectName::cluster("Namespace", namespace),
        format!(
            "pods of {} stand behind a Service and have no preStop hook that outlasts {PROXIES} s: \
             proxies send to them for some seconds after they were told to end, and these requests \
             fail unless the programs themselves go on serving",
            names(workloads.iter().map(String::as_str))
        ),
        format!(
            "lifecycle.preStop.sleep.seconds: {PROXIES}, and a grace period that is longer; \
             nothing, if the programs go on serving for as long after SIGTERM"
        ),
    )
}

fn never_asked(namespace: &str, workloads: &[String]) -> Finding {
    Finding::new(
        codes::NEVER_ASKED,
        Severity::Warning,
        ObjectName::cluster("Namespace", namespace),
        format!(
            "pods of {} stand behind a Service and have no readiness probe: one that was moved is \
             sent requests, and the next one may be evicted, before it can serve",
            names(workloads.iter().map(String::as_str))
        ),
        "give each a readinessProbe that says when it serves",
    )
}

/// A grace period counts from when the hook begins; what is left after it is for the
/// program, and the kubelet gives two seconds more where nothing is left
/// (`killContainer` of the kubelet).
fn cut_off(runner: &Runner<'_>, hook: u64) -> Option<Finding> {
    let grace = runner.template.spec.termination_grace_period_seconds;
    let grace = grace.map_or(30, |seconds| u64::try_from(seconds).unwrap_or(1));
    (grace <= hook).then(|| {
        Finding::new(
            codes::CUT_OFF,
            Severity::Warning,
            ObjectName::namespaced(runner.kind, runner.namespace, runner.name),
            format!(
                "its preStop hook sleeps for {hook} s of a grace period of {grace} s: its program \
                 is killed with the requests it still has"
            ),
            "a terminationGracePeriodSeconds that is longer than the hook by what the program \
             takes to end",
        )
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A workload `name` with a label of its own, behind the Service of that name.
    fn behind(name: &str, container: Value, grace: Option<u32>) -> (Service, Deployment) {
        let metadata = json!({ "namespace": "shop", "name": name });
        let service = json!({
            "metadata": metadata,
            "spec": { "clusterIP": "10.0.0.1", "selector": { "app": name } },
        });
        let deployment = json!({
            "metadata": metadata,
            "spec": { "replicas": 2, "template": {
                "metadata": { "labels": { "app": name, "tier": "front" } },
                "spec": { "containers": [container], "terminationGracePeriodSeconds": grace },
            } },
        });
        let deployment = serde_json::from_value(deployment).unwrap();
        (serde_json::from_value(service).unwrap(), deployment)
    }

    fn found(services: &[Service], deployments: &[Deployment]) -> Vec<String> {
        let findings = judge(services, deployments, &[]);
        findings
            .iter()
            .map(|it| format!("{} {}", it.code, it.object))
            .collect()
    }

    fn serving(lifecycle: &Value) -> Value {
        json!({ "readinessProbe": { "httpGet": { "port": 80 } }, "lifecycle": lifecycle })
    }

    #[test]
    fn a_hook_has_to_outlast_proxies_and_to_leave_time() {
        let sleep = |seconds: u32| json!({ "preStop": { "sleep": { "seconds": seconds } } });
        let exec = |command: Value| json!({ "preStop": { "exec": { "command": command } } });
        let short = "KM-SERVICE-001 Namespace shop";
        let cut = "KM-SERVICE-002 Deployment shop/web";
        for (lifecycle, grace, told) in [
            (json!(null), None, vec![short]),
            (json!({ "preStop": null }), None, vec![short]),
            (sleep(5), None, vec![short]),
            (sleep(9), Some(60), vec![short]),
            (sleep(10), None, vec![]),
            (sleep(30), None, vec![cut]),
            (sleep(30), Some(31), vec![]),
            (sleep(10), Some(10), vec![cut]),
            (exec(json!(["sleep", "5"])), None, vec![short]),
            (exec(json!(["/bin/sh", "-c", "sleep 15s"])), None, vec![]),
            (exec(json!(["sh", "-c", "sleep 40"])), Some(40), vec![cut]),
            (exec(json!(["sh", "-c", "sleep 1; /drain"])), None, vec![]),
            (exec(json!(["/drain", "--sleep", "3"])), None, vec![]),
            (
                json!({ "preStop": { "httpGet": { "port": 1 } } }),
                None,
                vec![],
            ),
        ] {
            let (service, deployment) = behind("web", serving(&lifecycle), grace);
            let found = found(&[service], &[deployment]);
            assert_eq!(found, told, "{lifecycle} {grace:?}");
        }
    }

    #[test]
    fn workloads_are_told_by_namespace_with_what_their_hook_has() {
        let short = json!({ "preStop": { "sleep": { "seconds": 3 } } });
        let (web, web_pods) = behind("web", serving(&short), None);
        let (api, api_pods) = behind("api", json!({}), None);
        let told = judge(&[web, api], &[web_pods, api_pods], &[]);
        let evidence: Vec<&str> = told.iter().map(|it| it.evidence.as_str()).collect();
        let [hooks, probes] = evidence.as_slice() else {
            panic!("{told:?}")
        };
        assert!(
            hooks.contains("Deployment web (3 s), Deployment api stand"),
            "{hooks}"
        );
        assert!(probes.contains("pods of Deployment api stand"), "{probes}");
    }

    #[test]
    fn only_what_a_proxied_service_chooses_counts() {
        let (service, deployment) = behind("web", json!({}), None);
        let both = [
            "KM-SERVICE-001 Namespace shop",
            "KM-SERVICE-003 Namespace shop",
        ];
        let with = |change: fn(&mut Service)| {
            let mut service = service.clone();
            change(&mut service);
            found(&[service], std::slice::from_ref(&deployment))
        };
        let set = |it: &mut Service, key: &str, value: &str| {
            it.spec.selector.insert(key.to_owned(), value.to_owned());
        };
        assert_eq!(with(|_| {}), both);
        let mut wider = service.clone();
        set(&mut wider, "tier", "front");
        assert_eq!(found(&[wider], std::slice::from_ref(&deployment)), both);
        let mut other = service.clone();
        set(&mut other, "tier", "back");
        assert!(found(&[other], std::slice::from_ref(&deployment)).is_empty());
        assert!(with(|it| it.spec.selector.clear()).is_empty());
        assert!(with(|it| it.spec.cluster_ip = Some("None".into())).is_empty());
        assert!(with(|it| it.spec.kind = Some("ExternalName".into())).is_empty());
        assert!(with(|it| it.metadata.namespace = Some("elsewhere".into())).is_empty());
        let mut none = deployment.clone();
        none.spec.replicas = Some(0);
        assert!(found(std::slice::from_ref(&service), &[none]).is_empty());
    }
}
