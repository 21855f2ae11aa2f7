// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Two warm interpreters in a guest that is snapshotted, and what they say in clones of it.
//!
//! One calls `sysgenid.random.protect()`, the other does not; else they are the same. Each has an
//! asyncio loop with a watcher, a hook that a background thread runs, and a guarded value. Beside
//! them is an agent with an orchestrator (`xtask/guest/python`). They and the host exchange lines
//! of a word and its `key=value` pairs:
//!
//! | who | line | when |
//! |---|---|---|
//! | interpreters | `ready interpreter`, and its values | its watcher sleeps: snapshot when both are |
//! | agent | `settled generation` | the orchestrator's wait for all watchers returned |
//! | host | `report NAME` | asks an interpreter for the next line |
//! | interpreter | `report interpreter`, and its values | |
//! | host | `status` | asks the agent for the next line |
//! | agent | `status generation tracked outdated` | what `python -m sysgenid` says |
//! | host | `finish` | all end, with exit code 0 if nothing failed |
//!
//! A report draws numbers, so what it says is compared with the same report of another machine.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{System, table, verdict};
use crate::error::{Error, Result};
use crate::tally::Tally;
use crate::vm::agent::Agent;
use crate::vm::qemu::{Config, Machine};
use crate::vm::subject::Dialect;

/// How long a machine may live.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The id that the snapshot is taken with, and that the controls keep.
const GUID: &str = "2b8e64d1-70c3-4f19-a5d6-93c1e08f7a42";

const SNAPSHOT: &str = "python.snapshot";

/// The interpreters, in the order in which they are asked.
const INTERPRETERS: [&str; 2] = ["unprotected", "protected"];

/// How long a control must stay silent. A clone is settled within that from its start.
const SILENCE: Duration = Duration::from_secs(5);

pub(super) fn run(system: &System<'_>, dialect: Dialect) -> Result<Tally> {
    println!("# two warm interpreters, on {dialect}");
    let rig = Rig::new(system, dialect)?;
    rig.snapshot()?;
    let clones = [rig.clone_of("clone-a")?, rig.clone_of("clone-b")?];
    let controls = [rig.control("control")?, rig.control("control-2")?];
    table::print(&clones, &controls);
    Ok(Tally::of_checks(&verdict::checks(
        dialect, &clones, &controls,
    )))
}

/// What an interpreter said of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) generation: String,
    /// `random.random()`.
    pub(super) random: String,
    /// `random.getrandbits(64)`.
    pub(super) bits: String,
    /// `uuid.uuid4()`.
    pub(super) uuid: String,
    /// The value of a `Guarded`.
    pub(super) guarded: String,
    /// How often the watcher in the loop woke.
    pub(super) wakes: String,
    /// How often the hook ran.
    pub(super) hooks: String,
}

impl Report {
    fn ask(agent: &mut Agent, name: &str) -> Result<Self> {
        agent.machine.send(&format!("report {name}"))?;
        let message = agent.expect("report")?;
        println!("# {}: {message}", agent.machine.name());
        if message.value("interpreter")? != name {
            return Err(Error::new(format!("{name} was asked, and not {message}")));
        }
        Ok(Self {
            generation: message.value("generation")?,
            random: message.value("random")?,
            bits: message.value("bits")?,
            uuid: message.value("uuid")?,
            guarded: message.value("guarded")?,
            wakes: message.value("wakes")?,
            hooks: message.value("hooks")?,
        })
    }
}

/// What is asked of a machine.
pub(super) struct Reports {
    pub(super) name: &'static str,
    pub(super) unprotected: Report,
    pub(super) protected: Report,
    /// What `python -m sysgenid` says.
    pub(super) generation: String,
    pub(super) tracked: String,
    pub(super) outdated: String,
}

impl Reports {
    fn ask(agent: &mut Agent, name: &'static str) -> Result<Self> {
        let [unprotected, protected] = INTERPRETERS;
        let unprotected = Report::ask(agent, unprotected)?;
        let protected = Report::ask(agent, protected)?;
        agent.machine.send("status")?;
        let status = agent.expect("status")?;
        println!("# {name}: {status}");
        Ok(Self {
            name,
            unprotected,
            protected,
            generation: status.value("generation")?,
            tracked: status.value("tracked")?,
            outdated: status.value("outdated")?,
        })
    }

    pub(super) fn interpreters(&self) -> [&Report; 2] {
        [&self.unprotected, &self.protected]
    }
}

/// A clone, from its start to its last report.
pub(super) struct Clone {
    pub(super) reports: Reports,
    pub(super) settled: String,
    /// From the start of its QEMU to the line that says so.
    pub(super) after: Duration,
}

/// A machine that is no clone.
pub(super) struct Control {
    pub(super) reports: Reports,
    /// What it said without being asked.
    pub(super) noise: Option<String>,
}

struct Rig<'a> {
    system: &'a System<'a>,
    dir: PathBuf,
    initrd: PathBuf,
}

impl<'a> Rig<'a> {
    fn new(system: &'a System<'_>, dialect: Dialect) -> Result<Self> {
        let dir = system.vm.run_dir()?;
        let initrd = dir.join("python.cpio");
        system.image("python.sh", dialect)?.write(&initrd)?;
        Ok(Self {
            system,
            dir,
            initrd,
        })
    }

    fn start(&self, name: &'static str, guid: &str, snapshot: Option<&str>) -> Result<Agent> {
        let config = Config {
            name,
            kernel: self.system.kernel,
            guid: Some(guid),
            initrd: &self.initrd,
            dir: &self.dir,
            snapshot,
            timeout: TIMEOUT,
            devices: &[],
            parameters: "",
        };
        Ok(Agent {
            machine: Machine::start(self.system.vm, &config)?,
        })
    }

    /// Boots a guest, and writes it to a file when its interpreters are warm.
    fn snapshot(&self) -> Result<()> {
        let mut agent = self.start("warm", GUID, None)?;
        for _ in INTERPRETERS {
            println!("# {}", agent.expect("ready")?);
        }
        agent.machine.qmp().migrate_to(SNAPSHOT)?;
        agent.machine.qmp().quit()?;
        agent.machine.wait()?;
        Ok(())
    }

    /// Restores the snapshot as another machine, and asks when all is settled.
    fn clone_of(&self, name: &'static str) -> Result<Clone> {
        let start = Instant::now();
        let mut agent = self.start(name, "auto", Some(SNAPSHOT))?;
        let settled = agent.expect("settled")?.value("generation")?;
        let after = start.elapsed();
        let reports = Reports::ask(&mut agent, name)?;
        agent.finish()?;
        Ok(Clone {
            reports,
            settled,
            after,
        })
    }

    /// Restores the snapshot as the same machine, which must not notice.
    fn control(&self, name: &'static str) -> Result<Control> {
        let mut agent = self.start(name, GUID, Some(SNAPSHOT))?;
        agent.machine.qmp().await_start()?;
        let noise = agent.listen(SILENCE)?;
        if let Some(noise) = &noise {
            println!("# {name} said unasked: {noise}");
        }
        let reports = Reports::ask(&mut agent, name)?;
        agent.finish()?;
        Ok(Control { reports, noise })
    }
}
