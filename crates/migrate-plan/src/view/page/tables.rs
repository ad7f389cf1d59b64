//! The tables of a page.

use migrate_core::Plan;

use super::super::budgets::BudgetUse;
use super::super::rows::{Row, told};
use super::super::table::{note, times};
use super::super::text::{clock, percent};
use super::super::waves::Waves;
use crate::WhatIf;
use crate::html::{Block, Table};

pub(super) fn what_ifs(what_ifs: &[(String, WhatIf)]) -> Vec<Block> {
    let mut table = Table::new(["If", "#takes", "#instead of", "#saves"]);
    for (words, what_if) in what_ifs {
        let saves = match what_if.before.checked_sub(what_if.after) {
            Some(saves) => clock(saves),
            None => format!("−{}", clock(what_if.after - what_if.before)),
        };
        let (after, before) = (clock(what_if.after), clock(what_if.before));
        table.row([words.clone(), after, before, saves]);
    }
    table.blocks("changes")
}

pub(super) fn bounds(plan: &Plan) -> Vec<Block> {
    let mut table = Table::new(["No order beats", "#Time", "#of the prediction"]);
    let makespan = plan.makespan().as_millis();
    for bound in plan.bounds.iter().flat_map(|bounds| &bounds.limits) {
        let share = (bound.time.as_millis() * 1000).checked_div(makespan);
        let share = share.and_then(|share| u32::try_from(share).ok());
        table.row([
            bound.kind.to_string(),
            clock(bound.time),
            share.map_or_else(String::new, percent),
        ]);
    }
    table.blocks("limits")
}

pub(super) fn pools(plan: &Plan) -> Table {
    let header = ["Pool", "To", "#Nodes", "#To do", "#Away at most", "#Useful"];
    let mut table = Table::new(told(plan, header, 1));
    for row in super::super::table::pools(plan) {
        table.row(told(plan, row, 1));
    }
    table
}

pub(super) fn budgets(uses: &[BudgetUse]) -> Vec<Block> {
    let mut table = Table::new([
        "Budget",
        "#Allowed",
        "#Most held",
        "#Drains",
        "#Pods",
        "#Busy",
        "#Full",
    ]);
    for of in uses {
        let numbers = [of.allowed, of.most_held, of.drains, of.pods];
        let mut row = vec![of.budget.to_string()];
        row.extend(numbers.iter().map(ToString::to_string));
        row.extend([of.busy, of.full].map(clock));
        table.row(row);
    }
    table.blocks("budgets")
}

pub(super) fn waves(waves: &Waves) -> Vec<Block> {
    let mut table = Table::new(["#Wave", "#Begins", "#Ends", "What", "Gate after it"]);
    for wave in &waves.waves {
        table.row([
            wave.number.to_string(),
            clock(wave.start),
            clock(wave.end),
            wave.what(),
            wave.gate.to_string(),
        ]);
    }
    let mut blocks = vec![Block::Text(format!(
        "If a person or a check had to pass a gate after each wave: {}.",
        waves.price()
    ))];
    blocks.extend(table.blocks("waves"));
    blocks
}

pub(super) fn targets(plan: &Plan, all: &[Row<'_>]) -> Vec<Block> {
    let header = [
        "Target", "Pool", "From", "To", "#Drain", "#Upgrade", "#Verify", "#Done", "",
    ];
    let mut table = Table::new(told(plan, header, 3));
    for row in all {
        let mut line = vec![row.target.to_string()];
        line.push(row.pool().unwrap_or_default().to_owned());
        let versions = [row.from, row.to].map(|of| of.map(ToString::to_string));
        line.extend(versions.map(Option::unwrap_or_default));
        line.extend(times(row));
        line.push(note(row));
        table.row(told(plan, line, 3));
    }
    table.blocks("targets")
}
