//! Bars of text, and Mermaid.

use std::time::Duration;

use migrate_core::{Phase, Policy};
use migrate_plan::{
    Beliefs, End, History, Lasted, PlanMermaid, PlanTable, PlanTimeline, Planner, TargetKind,
};

use super::forecast;
use crate::support::{Cluster, NEW, version};
use crate::{plan, small};

#[test]
fn the_timeline_of_a_small_cluster() {
    let model = small().build();
    let mut policy = Policy::default();
    policy.pools.max_unavailable = "3".parse().unwrap();
    policy.rollout.canary_soak = Duration::from_secs(600);
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    let text = PlanTimeline::new(&plan).with_width(90).to_string();
    let golden = include_str!("../../golden/timeline.txt");
    assert_eq!(text, golden, "\n{text}");
}

#[test]
fn no_bar_is_longer_than_the_width_nor_hidden() {
    let long = "a-name-that-is-much-longer-than-any-terminal-wants-it";
    let model = Cluster::new()
        .member("m")
        .pool(long, 30)
        .pool("b", 2)
        .build();
    let mut policy = Policy::default();
    policy.rollout.windows = serde_json::from_str(r#"[{"from": "09:00", "to": "11:00"}]"#).unwrap();
    let plan = Planner::new(&model, &policy, version(NEW)).plan().unwrap();
    for width in [0, 57, 80, 200] {
        let timeline = PlanTimeline::new(&plan).with_cluster(&model, &policy);
        let text = timeline.with_width(width).with_rows(8).to_string();
        let legend = text.lines().last().unwrap();
        let bars = text.lines().filter(|line| *line != legend);
        let longest = bars.map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width.max(57), "{width}: {text}");
        // A drain of a second in a plan of days.
        let mut targets = text.lines().filter(|line| line.starts_with("node "));
        assert!(
            targets.all(|line| line.ends_with(['U', 'v', 'd'])),
            "{text}"
        );
        assert!(text.contains("closed") && text.contains("x"), "{text}");
        assert!(text.contains("... and 26 more"), "{text}");
    }
}

#[test]
fn mermaid_has_a_section_for_each_pool() {
    let plan = plan(&small().build());
    let chart = PlanMermaid::new(&plan).to_string();
    let lines: Vec<&str> = chart.lines().map(str::trim).collect();
    assert_eq!(lines[0], "gantt");
    let sections: Vec<&&str> = lines.iter().filter(|l| l.starts_with("section")).collect();
    assert_eq!(
        sections,
        [
            &"section control plane and tasks",
            &"section pool control-plane",
            &"section pool general",
            &"section pool batch",
        ]
    );
    let bars = lines.iter().filter(|line| line.contains(" :")).count();
    assert_eq!(bars, plan.schedule.len());
    let upgrade = "control plane control-plane-1 upgrade :active, a1, 2000-01-01T00:00:00, \
                   2000-01-01T00:05:00";
    assert!(lines.contains(&upgrade), "{chart}");
    let short = PlanMermaid::new(&plan).with_rows(3).to_string();
    assert!(short.ends_with("%% and 8 more targets\n"), "{short}");
    // A name has no line, no colon and no end of its own.
    let model = Cluster::new()
        .member("m:x;\n%%")
        .pool("a:b\nsection c", 1)
        .build();
    let odd = PlanMermaid::new(&crate::plan(&model)).to_string();
    let sections = odd
        .lines()
        .filter(|line| line.trim().starts_with("section"));
    assert_eq!(sections.count(), 2, "{odd}");
}

#[test]
fn a_forecast_stands_beside_the_predicted_time_and_nowhere_else() {
    let plan = plan(&small().build());
    let forecast = forecast();
    let without = PlanTable::new(&plan).to_string();
    let with = PlanTable::new(&plan)
        .with_forecast(Some(forecast))
        .to_string();
    let line = "forecast 0:50:00 (P50: one in two such rollouts takes longer), 1:00:00 (P80: one in \
                five), 1:15:00 (P95: one in twenty)\n";
    let (before, after) = with.split_once(line).unwrap_or_else(|| panic!("{with}"));
    assert!(
        before.lines().last().unwrap().starts_with("predicted "),
        "{with}"
    );
    assert_eq!(format!("{before}{after}"), without);
    assert_eq!(
        PlanTable::new(&plan).with_forecast(None).to_string(),
        without
    );
    // What earlier runs tell of stuck actions stands below it, where they tell of them.
    let of = TargetKind::Members;
    let known = |end| {
        let [took, expected] = [100, 100].map(Duration::from_secs);
        let line = Lasted::new("a", of.clone(), Phase::Upgrade, took, expected, end);
        let mut history = History::default();
        history.lines = vec![line; 50];
        Beliefs::learned(&history).stuck_in(&plan)
    };
    assert_eq!(Beliefs::default().stuck_in(&plan), []);
    let (never, always) = (known(End::Took), known(End::Stuck));
    let shown = |stuck: &_| {
        let table = PlanTable::new(&plan).with_forecast(Some(forecast));
        table.with_stuck(stuck).to_string()
    };
    assert_eq!(shown(&Vec::new()), with);
    let count = always[0].actions;
    let line = |expected: &str, each: &str| {
        format!(
            "{line}stuck until a person comes, which is in none of these: {expected} of {count} \
             actions, by earlier runs; most likely upgrade of control plane, {each} % of {count}\n"
        )
    };
    let more = format!("{:.1}", 0.505 * f64::from(count));
    for (stuck, line) in [(&always, line(&more, "50.5")), (&never, line("0.0", "0.5"))] {
        assert_eq!(shown(stuck), format!("{before}{line}{after}"));
    }
}
