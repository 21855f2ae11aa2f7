// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a counter that the hypervisor keeps is right from a clone's first instruction on.
//!
//! The agent in the guest is `sysgenid-conformance first-load`. It takes turns for ever, and each
//! turn notes its number at [`TURNS`] and then loads the counter. So the host knows in which turn a
//! machine stood still, and the guest says in which turn it saw a change: that tells, without any
//! measurement of time, whether the change was there from the first instruction on.
//!
//! | who | line | when |
//! |---|---|---|
//! | agent | `ready counter generation turns` | it spins, and watches `/dev/sysgenid` |
//! | agent | `saw counter turn drawn` | a load found another counter than the one before; and what the kernel's random numbers were then |
//! | agent | `woke generation turn drawn` | its watcher noticed a change, while the spinner was in that turn; and what they were then |
//! | agent | `notified counter marker turn` | only with a vmclock: its `poll` returned |
//! | agent | `observed counter` | only with a vmclock: the SDK's observer told of a change |
//! | agent | `awaited counter` | only with a vmclock: the same in a runtime |
//! | host | `report` | asks for the next line |
//! | agent | `report counter generation turns` | what it would see now |
//! | host | `finish` | the agent ends |

use std::collections::BTreeSet;

use super::hypervisor::{GUID, Guest, Rig};
use super::ram::Ram;
use crate::error::{Context, Result};
use crate::tally::Tally;

/// Where the agent notes its turn.
pub(crate) const TURNS: u64 = 0x0c00_2000;

/// A counter, as its hypervisor has it.
pub(crate) struct Counter {
    /// What the machines are called.
    pub(crate) name: &'static str,
    pub(crate) load: fn(&Ram) -> Result<u64>,
    pub(crate) store: fn(&Ram, u64) -> Result<()>,
    /// Tells a guest of the change, if the hypervisor does that.
    pub(crate) notify: Option<fn(&mut Guest) -> Result<()>>,
}

/// What the clones get. None of it is a number that the suites leave behind.
const CLONES: [(&str, u64); 2] = [("clone-a", 101), ("clone-b", 202)];
const LATE: u64 = 77;

/// What a clone saw.
struct Seen {
    counter: u64,
    turn: u64,
    generation: String,
    notified: Option<String>,
    /// What the SDK's observers told of.
    observed: [Option<String>; 2],
    /// What it drew from the kernel at once, and what when the driver had told it.
    drawn: [String; 2],
}

impl Counter {
    /// Snapshots a guest whose agent is about to begin, and makes from it two clones whose counters
    /// are stored while they stand still, a third that gets its counter when it runs, and a control
    /// that is no clone.
    pub(crate) fn clones(&self, rig: &Rig<'_>, mut source: Guest) -> Result<Tally> {
        let ready = source.agent.expect("ready")?;
        println!("# {}: {ready}", self.name);
        let before = (self.load)(&source.ram)?;
        let generation = ready.value("generation")?;
        let snapshot = source.snapshot(&format!("{}.snapshot", self.name))?;
        let still = snapshot.ram.load_u64(TURNS)?;
        println!("# the snapshot stands still in turn {still}");
        let restore =
            |role: &str, guid| rig.restore(&snapshot, &format!("{}-{role}", self.name), guid);

        let mut seen = Vec::new();
        for (role, counter) in CLONES {
            let mut clone = restore(role, "auto")?;
            (self.store)(&clone.ram, counter)?;
            clone.go()?;
            seen.push(self.seen_by(clone)?);
        }

        let mut late = restore("late", "auto")?;
        late.go()?;
        let running = late.await_more(TURNS, still + 1)?;
        (self.store)(&late.ram, LATE)?;
        let late = self.seen_by(late)?;

        let mut control = restore("control", GUID)?;
        control.go()?;
        control.await_more(TURNS, still + 1)?;
        let noise = control.noise()?;
        let report = control.ask("report")?;
        control.finish()?;

        // No check: nobody promises either. It is why a secret is made again when the driver tells.
        let clones: Vec<_> = seen.iter().chain([&late]).collect();
        let alike = clones.len() - distinct(clones.iter().map(|seen| &seen.drawn[0]));
        println!(
            "# {alike} clones drew from the kernel at their first load what another had drawn"
        );

        let own = |(seen, (_, counter)): (&Seen, (&str, u64))| seen.counter == counter;
        let at_once = |seen: &Seen| seen.turn == still || seen.turn == still + 1;
        let mut checks = vec![
            (
                "agent_has_the_counter_that_the_host_has",
                ready.value("counter")? == before.to_string(),
            ),
            (
                "each_clone_sees_its_own_counter",
                seen.iter().zip(CLONES).all(own),
            ),
            (
                "each_clone_sees_it_at_its_first_load",
                seen.iter().all(at_once),
            ),
            // Else the check above could not fail.
            (
                "counter_stored_in_a_running_clone_is_seen_later",
                late.counter == LATE && late.turn >= running,
            ),
            (
                "sysgenid_announces_each_restore_beside_it",
                seen.iter()
                    .chain([&late])
                    .all(|seen| seen.generation != generation),
            ),
            (
                "clones_draw_differently_once_sysgenid_has_announced_it",
                distinct(clones.iter().map(|seen| &seen.drawn[1])) == clones.len(),
            ),
            (
                "control_sees_no_change",
                noise.is_none()
                    && report.value("counter")? == before.to_string()
                    && report.value("generation")? == generation,
            ),
        ];
        if self.notify.is_some() {
            let woken = |seen: &Seen| seen.notified == Some(seen.counter.to_string());
            checks.push((
                "notification_wakes_a_sleeper_in_each_clone",
                seen.iter().chain([&late]).all(woken),
            ));
            let told = |seen: &Seen| {
                let counter = Some(seen.counter.to_string());
                seen.observed.iter().all(|observed| *observed == counter)
            };
            checks.push((
                "observers_are_told_in_each_clone",
                seen.iter().chain([&late]).all(told),
            ));
        }
        Ok(Tally::of_checks(&checks))
    }

    /// Follows a clone that runs until all is said.
    fn seen_by(&self, mut clone: Guest) -> Result<Seen> {
        let mut words = vec!["saw", "woke"];
        if let Some(notify) = self.notify {
            notify(&mut clone)?;
            words.extend(["notified", "observed", "awaited"]);
        }
        let lines = clone.expect_all(&words)?;
        clone.finish()?;
        let value = |word: &str, key: &str| {
            let mut named = words.iter().zip(&lines);
            let line = named.find_map(|(w, line)| (*w == word).then_some(line));
            line.map(|line| line.value(key)).transpose()
        };
        let number = |key: &str| {
            let text = value("saw", key)?.unwrap_or_default();
            text.parse()
                .context(|| format!("the agent's {key}: {text:?}"))
        };
        Ok(Seen {
            counter: number("counter")?,
            turn: number("turn")?,
            generation: value("woke", "generation")?.unwrap_or_default(),
            notified: value("notified", "counter")?,
            observed: [value("observed", "counter")?, value("awaited", "counter")?],
            drawn: [
                value("saw", "drawn")?.unwrap_or_default(),
                value("woke", "drawn")?.unwrap_or_default(),
            ],
        })
    }
}

/// How many different things were said.
fn distinct<'a>(said: impl Iterator<Item = &'a String>) -> usize {
    let said: BTreeSet<_> = said.filter(|said| !said.is_empty()).collect();
    said.len()
}
