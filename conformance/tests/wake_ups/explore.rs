// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every state that a world can come to, and what is wrong with one of them.

use std::collections::{BTreeSet, HashMap, VecDeque};

use crate::world::{Step, World};

/// What was found in all states together.
#[derive(Debug, Default)]
pub(crate) struct Explored {
    pub(crate) states: usize,
    pub(crate) transitions: usize,
    /// The steps that were taken at least once.
    pub(crate) taken: BTreeSet<Step>,
}

/// A state that must not be, and the shortest way to it.
#[derive(Debug)]
pub(crate) struct Violation {
    pub(crate) why: &'static str,
    pub(crate) schedule: Vec<Step>,
}

/// Goes through every schedule.
///
/// # Errors
///
/// The first state found that breaks a property; none has a shorter schedule.
pub(crate) fn explore(start: World) -> Result<Explored, Violation> {
    let mut explored = Explored::default();
    let mut seen = HashMap::from([(start.clone(), 0)]);
    // By which step, from which state. The start's is not looked at.
    let mut origins = vec![None];
    let mut edges: Vec<Vec<usize>> = vec![Vec::new()];
    let mut left = VecDeque::from([start]);
    for from in 0.. {
        let Some(world) = left.pop_front() else { break };
        let violation = |why| Violation {
            why,
            schedule: schedule(&origins, from),
        };
        if let Some(why) = world.fault() {
            return Err(violation(why));
        }
        let next = world.next();
        // Whether the world changes once more, or anybody moves, is not to be relied on.
        if next.iter().all(|(step, _)| step.is_a_whim()) && !world.is_settled() {
            return Err(violation(
                "outdated, and nothing is under way that would wake its task",
            ));
        }
        for (step, world) in next {
            explored.transitions += 1;
            explored.taken.insert(step);
            let to = *seen.entry(world.clone()).or_insert_with(|| {
                origins.push(Some((step, from)));
                edges.push(Vec::new());
                left.push_back(world);
                origins.len() - 1
            });
            edges[from].push(to);
        }
    }
    explored.states = edges.len();
    match on_a_cycle(&edges) {
        Some(state) => Err(Violation {
            why: "a schedule that never ends",
            schedule: schedule(&origins, state),
        }),
        None => Ok(explored),
    }
}

fn schedule(origins: &[Option<(Step, usize)>], mut state: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some((step, from)) = origins[state] {
        steps.push(step);
        state = from;
    }
    steps.reverse();
    steps
}

/// What is left when states that nothing leads to are taken away, one after the other.
fn on_a_cycle(edges: &[Vec<usize>]) -> Option<usize> {
    let mut ways = vec![0; edges.len()];
    for &to in edges.iter().flatten() {
        ways[to] += 1;
    }
    let mut free: Vec<_> = (0..edges.len()).filter(|&state| ways[state] == 0).collect();
    while let Some(state) = free.pop() {
        for &to in &edges[state] {
            ways[to] -= 1;
            if ways[to] == 0 {
                free.push(to);
            }
        }
    }
    ways.iter().position(|&ways| ways > 0)
}
