// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm restore --source none`: random numbers in clones of a machine that has no source.
//!
//! Nothing wakes the agent. It prints `reseeded` when the kernel's log has the record that a restore
//! has reseeded the kernel, and only then is a clone asked for its numbers: before that moment the
//! kernel's own may be the same in all clones. The lines are:
//!
//! | who | line | when |
//! |---|---|---|
//! | agent | `ready`, and a number of each generator | snapshot now |
//! | agent | `reseeded` | the kernel has noticed the restore |
//! | host | `report` | asks for the next line |
//! | agent | `report`, and a number of each generator | |
//! | host | `finish` | the agent ends, with exit code 0 if nothing failed |
//!
//! The generators are those of `restore.rs`; `guarded` asks the process-wide witness here.

use std::time::Duration;

use super::agent::Message;
use super::restore::{Rig, SILENCE};
use crate::error::Result;
use crate::tally::Tally;

/// The numbers of one machine.
struct Drawn {
    rng: String,
    guarded: String,
    unguarded: String,
}

impl Drawn {
    fn of(name: &str, message: &Message) -> Result<Self> {
        println!("# {name}: {message}");
        Ok(Self {
            rng: message.value("rng")?,
            guarded: message.value("guarded")?,
            unguarded: message.value("unguarded")?,
        })
    }
}

pub(super) fn run(rig: &Rig<'_>) -> Result<Tally> {
    rig.snapshot()?;
    let [a, b] = [clone(rig, "clone-a")?, clone(rig, "clone-b")?];
    let mut control = rig.start_control()?;
    control.machine.send("report")?;
    let c = Drawn::of("control", &control.expect("report")?)?;
    let noise = control.listen(Duration::from_secs(SILENCE.into()))?;
    control.finish()?;

    let differ = |of: fn(&Drawn) -> &str| {
        let [a, b, c] = [&a, &b, &c].map(of);
        a != b && a != c && b != c
    };
    Ok(Tally::of_checks(&[
        (
            "without_a_source_numbers_of_sysgenid_rng_are_of_each_machine_alone",
            differ(|drawn| &drawn.rng),
        ),
        (
            "without_a_source_numbers_of_the_guarded_generator_are_of_each_machine_alone",
            differ(|drawn| &drawn.guarded),
        ),
        // What a seeded generator draws. If it is not the same, the clones were no clones.
        (
            "without_a_source_numbers_of_the_unguarded_generator_are_the_same_everywhere",
            a.unguarded == b.unguarded && a.unguarded == c.unguarded,
        ),
        (
            "without_a_source_the_kernel_of_the_control_notices_nothing",
            noise.is_none(),
        ),
    ]))
}

/// Restores the snapshot as another machine, and asks for numbers once its kernel has noticed.
fn clone(rig: &Rig<'_>, name: &'static str) -> Result<Drawn> {
    let mut agent = rig.start_clone(name)?;
    agent.expect("reseeded")?;
    agent.machine.send("report")?;
    let drawn = Drawn::of(name, &agent.expect("report")?)?;
    agent.finish()?;
    Ok(drawn)
}
