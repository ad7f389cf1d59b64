//! The same problem for a constraint solver, which proves what it finds.

use std::ops::ControlFlow;
use std::time::Duration;

use migrate_quality::problem::{Problem, Starts};
use pumpkin_conflict_resolvers::resolvers::ResolutionResolver;
use pumpkin_constraints::{cumulative, less_than_or_equals};
use pumpkin_core::Solver;
use pumpkin_core::branching::Brancher;
use pumpkin_core::branching::branchers::dynamic_brancher::DynamicBrancher;
use pumpkin_core::branching::branchers::warm_start::WarmStart;
use pumpkin_core::optimisation::OptimisationDirection;
use pumpkin_core::optimisation::linear_sat_unsat::LinearSatUnsat;
use pumpkin_core::results::{OptimisationResult, ProblemSolution, SolutionReference};
use pumpkin_core::termination::TimeBudget;
use pumpkin_core::variables::{DomainId, Literal, TransformableVariable};

/// What the solver says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// No schedule is shorter than this one.
    Optimal(Starts),
    /// The best that was found before time ran out.
    Best(Starts),
    /// There is no schedule as short as the one to begin with: its rules are not
    /// those of the machine.
    Contradiction,
}

/// Searches for a schedule of `problem` that ends first, for at most `limit`,
/// beginning with `known`, which must keep the rules. No lower bound of the
/// planner is used.
pub(crate) fn solve(problem: &Problem, known: &[i64], limit: Duration) -> Answer {
    let unit = unit(problem, known);
    let scaled = |time: i64| i32::try_from(time / unit).unwrap();
    let horizon = scaled(problem.makespan(known));
    let floor = floor(problem, &scaled).min(horizon);
    let mut solver = Solver::default();
    let end = solver.new_bounded_integer(floor, horizon);
    let mut starts = Vec::new();
    for task in &problem.tasks {
        let length = scaled(task.length);
        let start = solver.new_bounded_integer(0, horizon - length);
        at_most(&mut solver, start, end, -length).always();
        starts.push(start);
    }
    for id in 0..problem.pools.len() {
        add_pool(&mut solver, problem, id, &starts, horizon, &scaled);
    }
    for (id, budget) in problem.budgets.iter().enumerate() {
        let tasks = problem.tasks.iter().zip(&starts);
        let held: Vec<_> = tasks
            .flat_map(|(task, start)| {
                let needs = task.needs.iter().filter(move |need| need.0 == id);
                needs.map(move |need| (*start, scaled(task.drain), need.1 as i32))
            })
            .collect();
        add_resource(&mut solver, &held, budget.allowed as i32);
    }
    for room in &problem.rooms {
        let whole = |amount: u64| i32::try_from(amount).unwrap();
        let tasks = problem.tasks.iter().zip(&starts).zip(&room.takes);
        let away = tasks.map(|((task, start), takes)| (*start, scaled(task.length), whole(*takes)));
        let away: Vec<_> = away.filter(|(.., takes)| *takes > 0).collect();
        add_resource(&mut solver, &away, whole(room.spare));
    }
    let mut known: Vec<i32> = known.iter().map(|start| scaled(*start)).collect();
    let mut variables = starts.clone();
    variables.push(end);
    known.push(horizon);
    let branchers: Vec<Box<dyn Brancher>> = vec![
        Box::new(WarmStart::new(&variables, &known)),
        Box::new(solver.default_brancher()),
    ];
    let mut brancher = DynamicBrancher::new(branchers);
    let mut termination = TimeBudget::starting_now(limit);
    let mut resolver = ResolutionResolver::default();
    let go_on = |_: &Solver, _: SolutionReference<'_>, _: &DynamicBrancher, _: &_| {
        ControlFlow::<()>::Continue(())
    };
    let minimise = LinearSatUnsat::new(OptimisationDirection::Minimise, end, go_on);
    let result = solver.optimise(&mut brancher, &mut termination, &mut resolver, minimise);
    let read = |solution: &dyn Fn(DomainId) -> i32| -> Starts {
        let values = starts
            .iter()
            .map(|start| i64::from(solution(*start)) * unit);
        values.collect()
    };
    match result {
        OptimisationResult::Optimal(solution) => {
            Answer::Optimal(read(&|of| solution.get_integer_value(of)))
        }
        OptimisationResult::Satisfiable(solution) | OptimisationResult::Stopped(solution, ()) => {
            Answer::Best(read(&|of| solution.get_integer_value(of)))
        }
        OptimisationResult::Unsatisfiable => Answer::Contradiction,
        OptimisationResult::Unknown => Answer::Best(
            known[..starts.len()]
                .iter()
                .map(|start| i64::from(*start) * unit)
                .collect(),
        ),
    }
}

/// Slots of a pool, and its canary: whichever node it is, it ends before any
/// other of the pool begins.
fn add_pool(
    solver: &mut Solver,
    problem: &Problem,
    id: usize,
    starts: &[DomainId],
    horizon: i32,
    scaled: &impl Fn(i64) -> i32,
) {
    let pool = &problem.pools[id];
    let tasks = problem.tasks.iter().zip(starts);
    let of_pool: Vec<(DomainId, i32)> = tasks
        .filter(|(task, _)| task.pool == id)
        .map(|(task, start)| (*start, scaled(task.length)))
        .collect();
    let slots: Vec<_> = of_pool
        .iter()
        .map(|(start, length)| (*start, *length, 1))
        .collect();
    add_resource(solver, &slots, pool.width as i32);
    if !pool.canary || of_pool.len() < 2 {
        return;
    }
    let verified = solver.new_bounded_integer(0, horizon);
    let mut canaries: Vec<Literal> = Vec::new();
    for (start, length) in of_pool {
        let is_canary = solver.new_literal();
        at_most(solver, start, verified, -length).if_so(is_canary);
        at_most(solver, verified, start, 0).if_so(!is_canary);
        canaries.push(is_canary);
    }
    let tag = solver.new_constraint_tag();
    solver.add_clause(canaries.iter().map(Literal::get_true_predicate), tag);
    for (at, one) in canaries.iter().enumerate() {
        for other in &canaries[..at] {
            let tag = solver.new_constraint_tag();
            solver.add_clause(
                [one.get_false_predicate(), other.get_false_predicate()],
                tag,
            );
        }
    }
}

/// Spans of (start, length, amount) that may not take more than `capacity`.
fn add_resource(solver: &mut Solver, spans: &[(DomainId, i32, i32)], capacity: i32) {
    let all: i64 = spans.iter().map(|span| i64::from(span.2)).sum();
    if all <= i64::from(capacity) {
        return;
    }
    let tag = solver.new_constraint_tag();
    let starts: Vec<_> = spans.iter().map(|span| span.0).collect();
    let lengths: Vec<_> = spans.iter().map(|span| span.1).collect();
    let amounts: Vec<_> = spans.iter().map(|span| span.2).collect();
    solver
        .add_constraint(cumulative(starts, lengths, amounts, capacity, tag))
        .post();
}

/// `left` − `right` ≤ `most`, not yet said when.
struct AtMost<'s> {
    solver: &'s mut Solver,
    left: DomainId,
    right: DomainId,
    most: i32,
}

fn at_most(solver: &mut Solver, left: DomainId, right: DomainId, most: i32) -> AtMost<'_> {
    AtMost {
        solver,
        left,
        right,
        most,
    }
}

impl AtMost<'_> {
    fn always(self) {
        let tag = self.solver.new_constraint_tag();
        let terms = vec![self.left.scaled(1), self.right.scaled(-1)];
        self.solver
            .add_constraint(less_than_or_equals(terms, self.most, tag))
            .post();
    }

    fn if_so(self, literal: Literal) {
        let tag = self.solver.new_constraint_tag();
        let terms = vec![self.left.scaled(1), self.right.scaled(-1)];
        self.solver
            .add_constraint(less_than_or_equals(terms, self.most, tag))
            .implied_by(literal);
    }
}

/// What no schedule is shorter than, for the search to begin with: the work of
/// each pool over its width, behind its shortest node where it has a canary, and
/// that of each budget over what it allows.
fn floor(problem: &Problem, scaled: &impl Fn(i64) -> i32) -> i32 {
    let pools = problem.pools.iter().enumerate().map(|(id, pool)| {
        let of_pool = problem.tasks.iter().filter(|task| task.pool == id);
        let lengths: Vec<i32> = of_pool.map(|task| scaled(task.length)).collect();
        let all: i32 = lengths.iter().sum();
        let canary = lengths.iter().min().copied().filter(|_| pool.canary);
        let canary = canary.unwrap_or(0);
        canary + ((all - canary) as u32).div_ceil(pool.width) as i32
    });
    let budgets = problem.budgets.iter().enumerate().map(|(id, budget)| {
        let (mut work, mut rest) = (0u32, i32::MAX);
        for task in &problem.tasks {
            for need in task.needs.iter().filter(|need| need.0 == id) {
                work += need.1 * scaled(task.drain) as u32;
                rest = rest.min(scaled(task.length - task.drain));
            }
        }
        work.div_ceil(budget.allowed) as i32 + rest
    });
    pools.chain(budgets).max().unwrap_or(0)
}

/// The largest unit in which all times are whole.
fn unit(problem: &Problem, known: &[i64]) -> i64 {
    let times = problem
        .tasks
        .iter()
        .flat_map(|task| [task.drain, task.length]);
    let unit = times.chain(known.iter().copied()).fold(0, gcd);
    unit.max(1)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}
