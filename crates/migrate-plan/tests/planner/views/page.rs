//! The HTML page, read tag by tag.

use std::collections::{BTreeMap, BTreeSet};

use migrate_core::{ClusterModel, Plan, Policy, Target};
use migrate_plan::{Change, PlanPage, Planner};

use super::forecast;
use crate::support::{Cluster, NEW, version};
use crate::{plan, small};

/// All that this crate writes: elements, and which of their attributes.
const KNOWN: [(&str, &[&str]); 28] = [
    ("b", &[]),
    ("body", &[]),
    ("details", &[]),
    ("div", &["class"]),
    ("footer", &[]),
    ("h1", &[]),
    ("h2", &[]),
    ("head", &[]),
    ("html", &["lang"]),
    ("i", &["class"]),
    ("line", &["class", "x1", "x2", "y1", "y2"]),
    ("meta", &["charset", "content", "http-equiv", "name"]),
    ("p", &["class"]),
    ("path", &["class", "d"]),
    ("rect", &["class", "height", "width", "x", "y"]),
    ("span", &[]),
    ("style", &[]),
    ("summary", &[]),
    ("svg", &["aria-label", "role", "viewBox"]),
    ("table", &[]),
    ("tbody", &[]),
    ("td", &["class"]),
    ("text", &["class", "text-anchor", "x", "y"]),
    ("th", &["class", "scope"]),
    ("thead", &[]),
    ("title", &[]),
    ("tr", &[]),
    ("!DOCTYPE", &["html"]),
];
/// Those that have no end.
const EMPTY: [&str; 3] = ["!DOCTYPE", "line", "meta"];

/// Reads a page as a browser would, as far as a page of ours goes: every tag is
/// known, has known attributes only, and is closed in its turn. Gives the text.
fn read(page: &str) -> Result<String, String> {
    let known: BTreeMap<&str, &[&str]> = KNOWN.into_iter().collect();
    let mut open: Vec<&str> = Vec::new();
    let mut text = String::new();
    let mut rest = page;
    while let Some(at) = rest.find('<') {
        text.push_str(&rest[..at]);
        let end = rest[at..].find('>').ok_or("a tag has no end")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("{name} is closed out of turn"));
            }
            continue;
        }
        let (tag, is_closed) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let (name, mut attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        let allowed = known.get(name);
        let allowed = allowed.ok_or_else(|| format!("there is a {name}"))?;
        while let Some((attribute, value)) = attributes.split_once("=\"") {
            let attribute = attribute.trim();
            if !allowed.contains(&attribute) {
                return Err(format!("{name} has {attribute}"));
            }
            let (_, more) = value.split_once('"').ok_or("a value has no end")?;
            attributes = more;
        }
        let left = attributes.trim();
        if !left.is_empty() && !allowed.contains(&left) {
            return Err(format!("{name} has {left}"));
        }
        if !is_closed && !EMPTY.contains(&name) {
            open.push(name);
        }
    }
    match open.is_empty() && !rest.contains('>') {
        true => Ok(text),
        false => Err(format!("left open: {open:?}")),
    }
}

/// Nothing of a page is loaded from elsewhere or run.
fn is_alone(page: &str) -> bool {
    let lower = page.to_lowercase();
    let bad = ["<script", "url(", "@import", "src=", "href=", "javascript:"];
    bad.iter().all(|bad| !lower.contains(bad))
}

fn page_of(plan: &Plan, model: &ClusterModel, policy: &Policy) -> String {
    let undo: BTreeMap<Target, String> = plan
        .targets()
        .map(|(target, _)| {
            let text = match &target {
                Target::ControlPlane { .. } => "POINT OF NO RETURN: etcd".to_owned(),
                _ => format!("undo: drain {}", target.name()),
            };
            (target, text)
        })
        .collect();
    let planner = Planner::new(model, policy, version(NEW));
    let pool = plan.pools.last().unwrap().name.clone();
    let change = Change::Width {
        pool: pool.clone(),
        width: 2,
    };
    let words = format!("two of {pool} were away at once");
    let what_ifs = [(words, planner.what_if(&change).unwrap())];
    let found = migrate_plan::lint(plan, model, policy);
    let page = PlanPage::new(plan)
        .with_cluster(model, policy)
        .with_undo(&undo)
        .with_what_ifs(&what_ifs)
        .with_findings(&found);
    page.to_string()
}

#[test]
fn the_page_says_what_the_plan_says() {
    let model = small()
        .node("batch-2", |node| node.unschedulable = true)
        .build();
    let mut policy = Policy::default();
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "00:00", "to": "23:00"}]"#).unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let page = page_of(&plan, &model, &policy);
    let text = read(&page).unwrap();
    assert!(is_alone(&page));
    for said in [
        "Upgrade plan v1.36.3 → v1.37.2",
        "the bottleneck is",
        "KM-NODE-003",
        "POINT OF NO RETURN: etcd",
        "two of general were away at once",
        "PodDisruptionBudget shop/web",
        "general-4",
        "times as long",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // Blockers come before the chart.
    assert!(page.find("KM-NODE-003").unwrap() < page.find("<svg").unwrap());
    // Equal plans give equal bytes.
    assert_eq!(page, page_of(&plan, &model, &policy));
    let plain = PlanPage::new(&plan).to_string();
    assert!(read(&plain).is_ok() && plain.len() < page.len());
}

#[test]
fn names_that_are_markup_stay_text() {
    let hostile = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "' onmouseover='alert(1)",
        "</title></svg><a href=javascript:alert(1)>",
        "&lt;b&gt;",
        "--><!--",
        "\u{202e}txet\0",
    ];
    let mut cluster = Cluster::new().member("</h1><script>");
    for pool in hostile {
        cluster = cluster.pool(pool, 2);
        let node = format!("{pool}-1");
        cluster = cluster.deployment(pool, &[&node, &format!("{pool}-2")]);
        cluster = cluster.budget(pool, 1);
    }
    // One that cannot begin is named once more, with its cure.
    let node = format!("{}-2", hostile[1]);
    let model = cluster.node(&node, |node| node.ready = false).build();
    let policy = Policy::default();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let page = page_of(&plan, &model, &policy);
    let text = read(&page).unwrap_or_else(|error| panic!("{error}\n{page}"));
    assert!(!page.to_lowercase().contains("<script") && !page.contains('\0'));
    assert!(text.contains("&lt;script&gt;alert(1)&lt;/script&gt;-1"));
    // What is an entity already is text too.
    assert!(text.contains("&amp;lt;b&amp;gt;-1"));
}

/// The reader above can tell.
#[test]
fn a_page_with_foreign_markup_is_seen() {
    let page = PlanPage::new(&plan(&small().build())).to_string();
    assert!(read(&page).is_ok());
    for foreign in [
        "<script>",
        "<p onclick=\"x\">",
        "<a href=\"x\">",
        "</div>",
        "<p>",
        "<rect class=\"a\" onload=\"b\"/>",
    ] {
        let broken = page.replacen("<h2>", &format!("{foreign}<h2>"), 1);
        assert!(read(&broken).is_err(), "{foreign}");
    }
}

#[test]
fn large_pools_are_bands_and_small_ones_rows() {
    let model = Cluster::new()
        .member("m")
        .pool("control-plane", 3)
        .pool("large", 400)
        .build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "10%".parse().unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let page = PlanPage::new(&plan).to_string();
    let text = read(&page).unwrap();
    let classes: BTreeSet<&str> = page.split("class=\"").skip(1).collect();
    assert!(classes.iter().any(|class| class.starts_with("band\"")));
    assert!(text.contains("400 to upgrade") && text.contains("40 away at most"));
    assert!(text.contains("control-plane-1: drain"));
    assert!(!text.contains("large-1: drain"), "it has no row");
    assert!(page.contains("<details><summary>all 405 targets"), "folded");
}

#[test]
fn a_forecast_is_among_the_figures() {
    let plan = plan(&small().build());
    let page = PlanPage::new(&plan)
        .with_forecast(Some(forecast()))
        .to_string();
    let text = read(&page).unwrap();
    for said in [
        "half take no longer",
        "50 min",
        "nineteen in twenty take no longer",
        "75 min",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let without = PlanPage::new(&plan).to_string();
    assert!(!without.contains("take no longer"));
}
