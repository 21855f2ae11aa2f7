// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two steps at a time: one that compiles, as a rule, and one that mostly waits for a machine.

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use super::part::{Ended, Part};
use super::step::{Depth, Need, Step};
use crate::command;
use crate::error::{Context, Result};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// A machine in emulation keeps less than a processor busy, and a compiler all that there are.
const SLOTS: usize = 2;

/// Runs the steps, and prints what each has printed when it ends.
pub(super) fn run(
    steps: Vec<Step>,
    depth: Depth,
    workspace: &Workspace,
) -> Result<Vec<(Step, Tally)>> {
    let _lock = command::lock(&workspace.target.join("steps.lock"))?;
    let folder = workspace.target.join("steps");
    command::fresh_dir(&folder)?;
    println!(
        "each step's output follows when it ends; until then it is in {}",
        folder.display()
    );
    let mut waiting = in_order(steps);
    let mut running = Vec::new();
    let mut results = Vec::new();
    let (sender, ends) = channel();
    loop {
        while running.len() < SLOTS {
            let Some(next) = next(&waiting, &running) else {
                break;
            };
            let step = waiting.remove(next);
            running.push(step);
            println!("   {} begins", step.name());
            let (sender, part) = (sender.clone(), Part::new(step, &folder));
            thread::spawn(move || {
                let start = Instant::now();
                let ended = part.run(depth);
                // Nobody listens any more only if the run is over.
                let _ = sender.send((part, ended, start.elapsed()));
            });
        }
        if running.is_empty() {
            return Ok(results);
        }
        let (part, ended, time) = ends.recv().context(|| "waiting for a step")?;
        print(&part, &ended, time);
        running.retain(|step| *step != part.step);
        results.push((part.step, ended.tally));
    }
}

/// The machines first, one after the other, because they take as long as all that is compiled
/// meanwhile; the one that also needs Python is the last of them. What else needs Python comes early, so
/// that it is done by then.
fn in_order(mut steps: Vec<Step>) -> Vec<Step> {
    steps.sort_by_key(|step| {
        let needs = |need| step.needs().contains(&need);
        match (needs(Need::Vm), needs(Need::Python)) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) if matches!(step, Step::Format | Step::Lint) => 2,
            (false, true) => 3,
            (false, false) => 4,
        }
    });
    steps
}

/// The first that waits and needs nothing that is in use.
fn next(waiting: &[Step], running: &[Step]) -> Option<usize> {
    let in_use = |need| running.iter().any(|step| step.needs().contains(need));
    waiting
        .iter()
        .position(|step| !step.needs().iter().any(in_use))
}

fn print(part: &Part, ended: &Ended, time: Duration) {
    println!("\n== {}", part.step.title());
    let log = std::fs::read(&part.log).unwrap_or_default();
    print!("{}", String::from_utf8_lossy(&log));
    if !log.is_empty() && !log.ends_with(b"\n") {
        println!();
    }
    let Ended {
        tally,
        processor_time,
    } = ended;
    let processor_time = processor_time.map_or_else(
        || "an unknown processor time".into(),
        |time| format!("{:.0?} of processor time", time),
    );
    println!("-- {tally} in {time:.0?}, {processor_time}");
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    /// Lets the steps end in the order in which they began, and says what ran at the same time.
    fn pairs(steps: Vec<Step>) -> Vec<Vec<Step>> {
        let mut waiting = in_order(steps);
        let (mut running, mut pairs) = (Vec::new(), Vec::new());
        loop {
            while running.len() < SLOTS {
                let Some(next) = next(&waiting, &running) else {
                    break;
                };
                running.push(waiting.remove(next));
            }
            if running.is_empty() {
                return pairs;
            }
            pairs.push(running.clone());
            running.remove(0);
        }
    }

    #[test]
    fn every_step_runs_once_and_none_beside_one_that_needs_the_same() {
        let all = Step::value_variants().to_vec();
        let pairs = pairs(all.clone());
        for step in all {
            assert!(pairs.iter().flatten().any(|ran| *ran == step), "{step:?}");
        }
        for pair in &pairs {
            let [first, second] = pair.as_slice() else {
                continue;
            };
            let shared = first
                .needs()
                .iter()
                .find(|need| second.needs().contains(need));
            assert_eq!(shared, None, "{pair:?}");
        }
    }

    #[test]
    fn a_machine_and_a_compiler_begin_together() {
        let first = &pairs(Step::value_variants().to_vec())[0];
        assert_eq!(first.iter().filter(|step| step.needs_vm()).count(), 1);
    }
}
