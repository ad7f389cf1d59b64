//! What is printed: tables for people, JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Write;
use std::path::Path;

use migrate_core::cost::{Bytes, BytesPerSecond, Link, transfer_time};
use migrate_core::{ClusterModel, Finding, Plan, Policy, Target};
use migrate_executor::{FileJournal, RecordedRun, Report, ReportPage};
use migrate_kube::Anchor;
use migrate_plan::{PlanPage, PlanTable, Quantiles, Stuck};
use migrate_sim::rules::Violation;
use serde::Serialize;

use crate::account::Account;
use crate::cli::Cli;
use crate::failure::Failure;
use crate::files;
use crate::foresight::Ends;
use crate::links::{self, PER_NODE};
use crate::progress::human;
use crate::what_if::Otherwise;

/// What a link is taken to carry of which nothing is known.
const THROUGHPUT: BytesPerSecond = BytesPerSecond(125_000_000);

/// The plan and what is forecast of it, with what is known of stuck actions; `undo` tells
/// for each target how the driver takes it back.
pub(crate) fn plan(
    cli: &Cli,
    plan: &Plan,
    link: Option<&Link>,
    (forecast, stuck): (Option<Quantiles>, &[Stuck]),
    undo: &BTreeMap<Target, String>,
) -> Result<(), Failure> {
    if cli.json {
        json("plan", plan)?;
        if !undo.is_empty() {
            let by_name = undo.iter().map(|(target, undo)| (target.to_string(), undo));
            json("undo", &by_name.collect::<BTreeMap<_, _>>())?;
        }
        let Some(forecast) = forecast else {
            return Ok(());
        };
        let mut forecast = serde_json::to_value(forecast)?;
        if !stuck.is_empty() {
            forecast["stuck"] = serde_json::to_value(stuck)?;
        }
        return json("forecast", &forecast);
    }
    let mut out = std::io::stdout().lock();
    let table = PlanTable::new(plan).with_forecast(forecast);
    let table = table.with_stuck(stuck).with_undo(undo);
    writeln!(out, "{table}")?;
    let nodes = plan.slots.len() as u64;
    if let Some(link) = link {
        writeln!(out, "{}", links::told(link))?;
    }
    let (bytes, rate) = transfer(cli, link);
    writeln!(
        out,
        "T = N·D/S: {nodes} nodes · {} MB / {} MB/s = {} of transfer alone\n",
        bytes.0 / 1_000_000,
        rate.0 / 1_000_000,
        human(transfer_time(nodes, bytes, rate)?)
    )?;
    Ok(())
}

/// What each node has to move, and what all have together for that: over `link`, or as far
/// as nobody has said it, by constants.
pub(crate) fn transfer(cli: &Cli, link: Option<&Link>) -> (Bytes, BytesPerSecond) {
    let told = || cli.links.bytes_per_node.map_or(PER_NODE, Bytes);
    match link {
        Some(link) => (link.per_node, link.throughput),
        None => (told(), THROUGHPUT),
    }
}

/// The plan as a page, where `--html` asks for one.
pub(crate) fn plan_page(
    cli: &Cli,
    plan: &Plan,
    (model, policy): (&ClusterModel, &Policy),
    forecast: Option<Quantiles>,
    undo: &BTreeMap<Target, String>,
) -> Result<(), Failure> {
    let page = PlanPage::new(plan).with_cluster(model, policy);
    write_page(cli, &page.with_forecast(forecast).with_undo(undo))
}

/// The report as a page, with what the journal tells of its course.
fn report_page(cli: &Cli, report: &Report) -> Result<(), Failure> {
    if cli.html.is_none() {
        return Ok(());
    }
    let run = recorded(report);
    let course = run.as_ref();
    let course = course.and_then(|run| Some((&*run.opened, run.timeline().ok()?)));
    match &course {
        Some((opened, timeline)) => {
            write_page(cli, &ReportPage::new(report).with_course(opened, timeline))
        }
        None => write_page(cli, &ReportPage::new(report)),
    }
}

/// The run of `report` as the file of its journal has it; one in memory has no file.
pub(crate) fn recorded(report: &Report) -> Option<RecordedRun> {
    // `host:path`.
    let (_, path) = report.journal.split_once(':')?;
    let entries = FileJournal::read(Path::new(path)).ok()?;
    let run = RecordedRun::all(entries).pop();
    run.filter(|run| run.opened.run == report.run)
}

fn write_page(cli: &Cli, page: &impl Display) -> Result<(), Failure> {
    let Some(path) = &cli.html else {
        return Ok(());
    };
    files::write(path, &page.to_string())
}

/// A finding that a run will have whatever the cluster is like.
pub(crate) fn will_need(cli: &Cli, code: &str) -> Result<(), Failure> {
    if cli.json {
        return json("willNeedWaiver", code);
    }
    writeln!(
        std::io::stdout().lock(),
        "a run will also need --waive {code}: its backup is not proven; see docs/findings.md\n"
    )?;
    Ok(())
}

/// The report; for programs also what the next run can be predicted from.
pub(crate) fn report(cli: &Cli, report: &Report) -> Result<(), Failure> {
    let mut report = report.clone();
    for wait in &mut report.waits {
        if let Some(allowed) = allowed_since(&wait.on) {
            wait.on = allowed;
        }
    }
    if cli.json {
        json("report", &report)?;
        json("measured", &report.measured())?;
    } else {
        writeln!(std::io::stdout().lock(), "{report}")?;
    }
    report_page(cli, &report)
}

/// The words for a permission that was missing and is there now: every wait of
/// a report is over, so that the advice to add a rule has had its time. A
/// permission that stays missing ends a run, and the cause of its end keeps
/// the advice.
fn allowed_since(on: &str) -> Option<String> {
    let (what, _) = on.split_once("; add the rule ")?;
    Some(format!(
        "{what}; it is allowed since, with nothing left to add: a new role takes a moment to count"
    ))
}

pub(crate) fn findings(cli: &Cli, findings: &[Finding]) -> Result<(), Failure> {
    if cli.json {
        return json("findings", &findings);
    }
    let mut out = std::io::stdout().lock();
    if findings.is_empty() {
        writeln!(out, "nothing found")?;
    }
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    Ok(())
}

/// What a check has found, and what it comes to.
pub(crate) fn checked(cli: &Cli, findings: &[Finding]) -> Result<(), Failure> {
    if cli.json {
        return json("findings", &findings);
    }
    let mut out = std::io::stdout().lock();
    let object = |finding: &Finding| finding.object.to_string();
    let width = findings.iter().map(|finding| object(finding).len()).max();
    let width = width.unwrap_or_default();
    for finding in findings {
        let severity = match finding.waived {
            true => "waived".to_owned(),
            false => finding.severity.to_string(),
        };
        let object = object(finding);
        let (code, evidence, cure) = (&finding.code, &finding.evidence, &finding.cure);
        writeln!(
            out,
            "{severity:8} {code:14} {object:width$}  {evidence}; {cure}"
        )?;
    }
    let blockers = findings.iter().filter(|finding| finding.blocks()).count();
    writeln!(
        out,
        "{} found, {blockers} of them would keep a run from starting; nothing was changed",
        findings.len()
    )?;
    Ok(())
}

/// What the linter says of a plan that was handed over.
pub(crate) fn linted(cli: &Cli, findings: &[Finding]) -> Result<(), Failure> {
    if cli.json {
        return json("lint", &findings);
    }
    let mut out = std::io::stdout().lock();
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    Ok(())
}

pub(crate) fn rules(cli: &Cli, broken: &[Violation]) -> Result<(), Failure> {
    if cli.json {
        return json("brokenRules", &broken);
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "broken rules (I1-I4, I6, after every write): {}",
        broken.len()
    )?;
    for violation in broken {
        writeln!(out, "  {violation}")?;
    }
    Ok(())
}

/// What the cluster names, if it answered, and what the journal tells, if
/// there is one, of what is to come too.
pub(crate) fn status(
    cli: &Cli,
    anchor: Option<&Anchor>,
    account: Option<&Account>,
    (ends, what_ifs): (Option<&Ends>, &[Otherwise]),
) -> Result<(), Failure> {
    let mark = anchor.and_then(|anchor| anchor.mark.as_ref());
    let paused = anchor.is_some_and(|anchor| anchor.paused);
    if cli.json {
        let mut value = serde_json::Map::new();
        if let Some(mark) = mark {
            value.insert("run".to_owned(), mark.run.clone().into());
            value.insert("journal".to_owned(), mark.journal.clone().into());
            value.insert("plan".to_owned(), mark.plan.clone().into());
            value.insert("epoch".to_owned(), anchor.map_or(0, |it| it.epoch).into());
            value.insert("paused".to_owned(), paused.into());
        }
        if let Some(account) = account {
            value.insert("account".to_owned(), serde_json::to_value(account)?);
        }
        if let Some(ends) = ends {
            value.insert("ends".to_owned(), serde_json::to_value(ends)?);
        }
        if !what_ifs.is_empty() {
            value.insert("whatIf".to_owned(), serde_json::to_value(what_ifs)?);
        }
        let value = (!value.is_empty()).then_some(value);
        return json("status", &value);
    }
    let mut out = std::io::stdout().lock();
    match (anchor, mark) {
        (None, _) => writeln!(out, "the cluster does not say")?,
        (Some(_), None) => writeln!(out, "no run is going on")?,
        (Some(anchor), Some(mark)) => {
            writeln!(out, "run {} of plan {}", mark.run, mark.plan)?;
            writeln!(out, "journal {}", mark.journal)?;
            if let Some(holder) = &anchor.holder {
                let (epoch, renewed) = (anchor.epoch, &holder.renewed);
                writeln!(
                    out,
                    "held under epoch {epoch}, last renewed at {renewed} by its clock"
                )?;
            }
            writeln!(out, "paused {}", if paused { "yes" } else { "no" })?;
        }
    }
    if let Some(account) = account {
        writeln!(out, "\nThe journal's account:")?;
        account.show(&mut out)?;
    }
    if let Some(ends) = ends {
        writeln!(out, "ends       {ends}")?;
    }
    for what_if in what_ifs {
        writeln!(out, "what if    {what_if}")?;
    }
    Ok(())
}

/// One line per document, so that a reader needs no stream parser.
pub(crate) fn json(name: &str, value: &(impl Serialize + ?Sized)) -> Result<(), Failure> {
    let line = serde_json::to_string(&serde_json::json!({ name: value }))?;
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}
