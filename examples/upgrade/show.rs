//! What is printed: tables for people, JSON for programs.

use std::io::Write;

use migrate_core::cost::{Bytes, BytesPerSecond, transfer_time};
use migrate_core::{Finding, Plan};
use migrate_executor::Report;
use migrate_kube::Anchor;
use migrate_plan::PlanTable;
use migrate_sim::rules::Violation;
use serde::Serialize;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::progress::human;

pub(crate) fn plan(cli: &Cli, plan: &Plan) -> Result<(), Failure> {
    if cli.json {
        return json("plan", plan);
    }
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", PlanTable::new(plan))?;
    let nodes = plan.slots.len() as u64;
    let (bytes, rate) = (Bytes(cli.bytes_per_node), BytesPerSecond(cli.throughput));
    writeln!(
        out,
        "T = N·D/S: {nodes} nodes · {} MB / {} MB/s = {} of transfer alone\n",
        bytes.0 / 1_000_000,
        rate.0 / 1_000_000,
        human(transfer_time(nodes, bytes, rate)?)
    )?;
    Ok(())
}

pub(crate) fn report(cli: &Cli, report: &Report) -> Result<(), Failure> {
    if cli.json {
        return json("report", report);
    }
    writeln!(std::io::stdout().lock(), "{report}")?;
    Ok(())
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

pub(crate) fn status(cli: &Cli, anchor: &Anchor) -> Result<(), Failure> {
    if cli.json && anchor.mark.is_none() {
        return json("status", &serde_json::Value::Null);
    }
    let mut out = std::io::stdout().lock();
    let Some(mark) = &anchor.mark else {
        writeln!(out, "no run is going on")?;
        return Ok(());
    };
    if cli.json {
        let value = serde_json::json!({
            "run": mark.run, "journal": mark.journal, "plan": mark.plan, "paused": anchor.paused,
        });
        drop(out);
        return json("status", &value);
    }
    writeln!(out, "run {} of plan {}", mark.run, mark.plan)?;
    writeln!(out, "journal {}", mark.journal)?;
    writeln!(out, "paused {}", if anchor.paused { "yes" } else { "no" })?;
    Ok(())
}

/// One line per document, so that a reader needs no stream parser.
fn json(name: &str, value: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(&serde_json::json!({ name: value }))?;
    writeln!(std::io::stdout().lock(), "{line}")?;
    Ok(())
}
