//! What the planner's example refuses.

use serde_json::{Value, json};

use super::Dumped;

/// One line that names the file, or what else is at fault, and what to do; and exit code 1.
#[test]
fn what_is_wrong_is_named_with_its_cure() {
    let dumped = Dumped::new();
    let change = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut model = dumped.model();
        change(&mut model);
        dumped.write(name, &model.to_string());
    };
    dumped.write("cut.json", &dumped.read("model.json")[..2_000]);
    change("newer.json", &|model| model["schema"] = 99.into());
    change("negative.json", &|model| {
        model["nodes"][3]["allocatable"]["cpuMilli"] = (-5).into();
    });
    change("headless.json", &|model| model["controlPlane"] = json!([]));
    dumped.write("key.toml", "[pools]\nmax-unavailable = 1\nunheard-of = 2\n");
    dumped.write("ramp.toml", "[pools]\nramp = [4, 1]\n");
    dumped.write("open.yaml", "clusters: [");
    dumped.write("none.yaml", "apiVersion: v1\nkind: Config\n");

    let readable = "name a text file that this user may read";
    let writable = "name a file in a folder where this user may write";
    let whole = "give one as it was written, whole and unchanged";
    let as_documented = "correct it as in docs/policy.toml";
    let kubeconfig = "name a kubeconfig of the cluster with --kubeconfig";
    let anew = "use the release that wrote it, or make it anew";
    for (words, file, why, cure) in [
        ("--model no.json", "no.json", "No such file", readable),
        (
            "--model cut.json",
            "cut.json",
            "not a cluster model: EOF",
            whole,
        ),
        ("--model newer.json", "newer.json", "has schema 99", anew),
        (
            "--model negative.json",
            "negative.json",
            "integer `-5`",
            whole,
        ),
        (
            "--model headless.json",
            "headless.json",
            "no control plane",
            "docs/model.md",
        ),
        (
            "--model headless.json --to v1.37.2",
            "headless.json",
            "no API server is known",
            "observe the cluster again",
        ),
        (
            "--model model.json --to v1.35.0",
            "model.json",
            "cannot go back to v1.35.0",
            "choose a target that is not older",
        ),
        (
            "--model model.json --to v1.38.0",
            "model.json",
            "takes more than one hop",
            "plan the upgrade to 1.37 first",
        ),
        ("--policy no.toml", "no.toml", "No such file", readable),
        (
            "--policy key.toml",
            "key.toml",
            "unknown field `unheard-of`",
            as_documented,
        ),
        (
            "--policy ramp.toml",
            "ramp.toml",
            "does not rise",
            as_documented,
        ),
        (
            "--kubeconfig no.yaml",
            "no.yaml",
            "No such file",
            kubeconfig,
        ),
        (
            "--kubeconfig open.yaml",
            "open.yaml",
            "failed to parse",
            kubeconfig,
        ),
        ("--kubeconfig none.yaml", "none.yaml", "context", kubeconfig),
        (
            "--dump no/model.json",
            "no/model.json",
            "No such file",
            writable,
        ),
        (
            "--html no/page.html",
            "no/page.html",
            "No such file",
            writable,
        ),
        (
            "--plan no/plan.json",
            "no/plan.json",
            "No such file",
            writable,
        ),
        ("--mermaid no/chart", "no/chart", "No such file", writable),
        ("--lint no.json", "no.json", "No such file", readable),
        (
            "--lint model.json",
            "model.json",
            "this is not a plan",
            whole,
        ),
        ("--diff cut.json", "cut.json", "this is not a plan", whole),
        (
            "--history cut.json",
            "cut.json",
            "not a line of a history",
            whole,
        ),
    ] {
        let arguments: Vec<&str> = words.split(' ').collect();
        let (code, said, error) = dumped.run(&arguments);
        assert_eq!((code, &*said), (Some(1), ""), "{words}: {error}");
        assert!(error.starts_with(&format!("error: {file}: ")), "{error}");
        assert!(
            error.contains(why) && error.contains(cure),
            "{words}: {error}"
        );
    }
    let (code, _, error) = dumped.run(&["--throughput", "0"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("give the rate that was measured"), "{error}");
    // Flags that do not go together are clap's, with 2.
    for (words, says) in [
        (
            "--model a --kubeconfig b",
            "cannot be used with '--kubeconfig",
        ),
        ("--measure-links", "give --kubeconfig"),
        ("--to v9", "write it like `v1.37.2`"),
        ("--parent a", "--lint"),
        ("--lint a --html b", "cannot be used with"),
    ] {
        let arguments: Vec<&str> = words.split(' ').collect();
        let (code, said, error) = dumped.run(&arguments);
        assert_eq!((code, &*said), (Some(2), ""), "{words}: {error}");
        assert!(error.contains(says), "{words}: {error}");
    }
}
