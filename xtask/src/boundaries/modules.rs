//! The guard of pure modules in crates that are not pure as a whole.

use std::path::Path;

use super::source::{code, is_of_name, words};
use super::{named_in_std, sources};

/// A module that decides from data alone.
struct PureModule {
    /// Its file or folder, from the root of the workspace.
    path: &'static str,
    /// Why it has to be pure: what people are told who break it.
    reason: &'static str,
}

const MODULES: &[PureModule] = &[
    PureModule {
        path: "crates/migrate-drain/src/machine",
        reason: "every node in flight is drained by this machine, and its stories and properties are \
                 tested without a cluster; what asks and waits is driver/",
    },
    PureModule {
        path: "crates/migrate-etcd/src/find/choose.rs",
        reason: "which member a snapshot is taken of follows from what each says of itself; what asks \
                 them is kubeadm.rs",
    },
    PureModule {
        path: "crates/migrate-etcd/src/gate.rs",
        reason: "whether a backup is good enough to begin is decided from its manifest and a time that \
                 is given; what looks into the store is provider/",
    },
    PureModule {
        path: "crates/migrate-etcd/src/retention.rs",
        reason: "what is removed must not depend on when that is asked; what removes is store/",
    },
    PureModule {
        path: "crates/migrate-verify/src/compare.rs",
        reason: "better or worse is a function of two looks, so that a verdict can be made again; \
                 what looks is signals/ and health.rs",
    },
    PureModule {
        path: "crates/migrate-verify/src/compare",
        reason: "as compare.rs; how long to look again is decided from what was seen",
    },
    PureModule {
        path: "crates/migrate-verify/src/baseline.rs",
        reason: "a baseline is made of a model, by the run and by whoever reads its journal",
    },
    PureModule {
        path: "crates/migrate-executor/src/state",
        reason: "a run is a fold over its journal: folded again after a crash, it must give the same",
    },
    PureModule {
        path: "crates/migrate-executor/src/report",
        reason: "a report is a fold over the journal too, made where the run was or anywhere else",
    },
];

/// Crates a pure module must not name. What `migrate-kube` has read is data, and
/// it may name its types: to ask it something takes an `await`.
const FORBIDDEN_CRATES: &[&str] = &[
    "async_trait",
    "etcd_client",
    "futures",
    "futures_util",
    "hyper",
    "k8s_openapi",
    "kube",
    "kube_client",
    "kube_core",
    "rand",
    "reqwest",
    "tokio",
    "tokio_util",
    "tonic",
    "tower",
];

/// As in pure crates, and what waits or knows its surroundings.
const FORBIDDEN_IN_STD: &[&str] = &["*", "as", "env", "fs", "net", "os", "process", "thread"];

/// Words a pure module does without, wherever they come from: clocks, and what
/// waits.
const FORBIDDEN_WORDS: &[&str] = &["Instant", "SystemTime", "async", "await"];

/// What a path may come after.
const KEYWORDS: &[&str] = &["as", "dyn", "else", "impl", "in", "mut", "return", "use"];

/// Adds to `broken` what pure modules below `root` name that they must not.
pub(super) fn check(root: &Path, broken: &mut Vec<String>) -> Result<(), String> {
    for module in MODULES {
        let texts = sources(&root.join(module.path))?;
        for (path, text) in texts {
            // Of their own, these may wait and ask.
            let of_module = path.strip_prefix(root).unwrap_or(&path);
            let is_test = of_module.components().any(|part| {
                let part = Path::new(part.as_os_str());
                part.file_stem().is_some_and(|stem| stem == "tests")
            });
            if is_test {
                continue;
            }
            let found = impurities(&text).into_iter();
            broken.extend(found.map(|found| {
                let (path, reason) = (of_module.display(), module.reason);
                format!("{path}:{found}, but is pure: {reason}")
            }));
        }
    }
    Ok(())
}

/// What the source `text` of a pure module must not name, each with its line
/// where one word shows it.
fn impurities(text: &str) -> Vec<String> {
    let code = code(text);
    let mut found: Vec<String> = named_in_std(&code, FORBIDDEN_IN_STD)
        .into_iter()
        .map(|name| format!(" uses {name} of std"))
        .collect();
    let words = words(&code);
    for (at, &(line, word)) in words.iter().enumerate() {
        let before = |back: usize| at.checked_sub(back).map_or("", |at| words[at].1);
        let after = |on: usize| words.get(at + on).map_or("", |(_, word)| *word);
        // `::kube` begins anew, also after a keyword.
        let is_below = before(3).ends_with(is_of_name) && !KEYWORDS.contains(&before(3));
        let below_a_name = before(1) == ":" && before(2) == ":" && (is_below || before(3) == ">");
        // A field or a variable has a colon, a dot or an equals sign of its own.
        let is_path = after(1) == ":" && after(2) == ":";
        let is_imported = ["use", "crate", "{", ",", ":"].contains(&before(1))
            && [";", "as", ",", "}"].contains(&after(1));
        let is_crate = FORBIDDEN_CRATES.contains(&word) && !below_a_name;
        let is_clock = word == "now" && below_a_name;
        if (is_crate && (is_path || is_imported)) || FORBIDDEN_WORDS.contains(&word) || is_clock {
            found.push(format!("{line} names {word}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_or_waits_or_knows_the_time_is_found() {
        for (line, name) in [
            ("use kube::Client;", "kube"),
            ("use ::kube;", "kube"),
            ("use {kube, std::fmt};", "kube"),
            ("extern crate kube as k;", "kube"),
            ("fn f(c: &kube::Client) {}", "kube"),
            ("tokio::select! {}", "tokio"),
            (
                "fn f() -> futures::future::BoxFuture<'static, ()> {}",
                "futures",
            ),
            ("let at = std::time::Instant::now();", "Instant"),
            (
                "use std::time::{Duration, SystemTime as Clock};",
                "SystemTime",
            ),
            ("let at = jiff::Timestamp::now();", "now"),
            ("async fn f() {}", "async"),
            ("observe(&client).await", "await"),
        ] {
            let text = format!("//! Pure.\n\n{line}\n");
            let found = impurities(&text);
            let named = format!("3 names {name}");
            assert!(found.contains(&named), "{line}: {found:?}");
        }
        assert_eq!(
            impurities("use std::{fmt, fs};\nstd::thread::sleep(d);"),
            [" uses fs of std", " uses thread of std"]
        );
    }

    #[test]
    fn what_only_looks_alike_is_not() {
        let harmless = "//! tokio::spawn, kube::Client\n\
                        use migrate_kube::{EvictionAnswer, resources::Pod};\n\
                        use std::{collections::BTreeMap, time::Duration};\n\
                        fn f(now: Moment) { g(now, self.tokio, \"kube::Client\"); }\n\
                        let kube = S { futures: 1 };\n\
                        crate::tower::lean();\n\
                        #[cfg(test)]\nmod tests {\n use tokio::time::Instant;\n}\n";
        assert_eq!(impurities(harmless), [""; 0]);
    }

    #[test]
    fn every_module_is_there_and_has_a_reason() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for module in MODULES {
            assert!(root.join(module.path).exists(), "{}", module.path);
            assert!(!module.reason.is_empty(), "{}", module.path);
        }
        let mut broken = Vec::new();
        check(&root, &mut broken).unwrap();
        assert_eq!(broken, [""; 0]);
    }
}
