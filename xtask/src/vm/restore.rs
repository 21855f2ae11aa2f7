// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm restore`: from a restored machine to a rebuilt secret, end to end.
//!
//! A guest is snapshotted while its agent sleeps in a wait for the next generation. Two clones get
//! new generation ids, a control gets the old one. The agent is `sysgenid-conformance
//! restore-guest`; it and the host exchange lines of a word and its `key=value` pairs:
//!
//! | who | line | when |
//! |---|---|---|
//! | agent | `ready generation secret`, and a number of each generator | a watcher sleeps, an orchestrator watches: snapshot now |
//! | agent | `woke generation` | the watcher noticed a change |
//! | agent | `rebuilt secret` | the guarded secret is a new one |
//! | agent | `acknowledged generation` | the watcher's acknowledgement was accepted |
//! | agent | `settled generation` | the orchestrator's wait for the watcher returned |
//! | host | `report` | asks for the next line |
//! | agent | `report generation outdated wakes secret`, and a number of each generator | |
//! | host | `finish` | the agent ends, with exit code 0 if nothing failed |
//!
//! The generators are `rng`, which is `sysgenid::rng()`; `guarded`, a ChaCha in a `SnapshotSafeRng`
//! on the watcher's own probe; and `unguarded`, a ChaCha that nothing guards. All have drawn before
//! the snapshot. On the v5 dialect a process has a probe only from a watcher, so `rng` has no source
//! there and draws from the kernel. A report is asked for after the clone has settled, so it covers
//! nothing of the window between the resume and the change of the generation.
//!
//! On a stock kernel the source is the userspace driver, `sysgenid serve`, which runs in the guest as well
//! and follows the kernel's log. It and the agent are as in the other machines, and so is what must hold.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::agent::{Agent, Message};
use super::qemu::{Config, Machine};
use super::subject::Dialect;
use super::{Driver, Kernel, Vm, guest, sourceless};
use crate::error::Result;
use crate::tally::Tally;

/// How long a machine may live.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The id that the snapshot is taken with, and that the control keeps.
const GUID: &str = "6d0f5c2e-8a41-4b7c-9e35-1f2a7d90c4b8";

const SNAPSHOT: &str = "restore.snapshot";

/// How long the control must stay silent, asked once a second. A clone is woken within one.
pub(super) const SILENCE: u32 = 6;

/// The source that the agent in the guest has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Source {
    /// The driver with the v6 dialect
    V6,
    /// The driver with the v5 dialect
    V5,
    /// No source: only the kernel itself notices a restore
    None,
    /// No driver: the userspace driver, which follows what works on a stock kernel
    Stock,
}

impl Source {
    pub(crate) const ALL: [Self; 4] = [Self::V6, Self::V5, Self::None, Self::Stock];

    fn dialect(self) -> Option<Dialect> {
        match self {
            Self::V6 => Some(Dialect::V6),
            Self::V5 => Some(Dialect::V5),
            Self::None | Self::Stock => None,
        }
    }
}

impl From<Dialect> for Source {
    fn from(dialect: Dialect) -> Self {
        match dialect {
            Dialect::V6 => Self::V6,
            Dialect::V5 => Self::V5,
        }
    }
}

pub(crate) fn run(vm: &Vm, kernel: &Kernel, source: Source) -> Result<Tally> {
    println!("# a restore, source: {source:?}");
    let rig = Rig::new(vm, kernel, source)?;
    if source == Source::None {
        return sourceless::run(&rig);
    }
    let source = Report::of(&rig.snapshot()?, "snapshot")?;
    let clones = [rig.clone_of("clone-a")?, rig.clone_of("clone-b")?];
    let control = rig.control()?;
    print_table(&source, &clones, &control);
    Ok(judge(&source, &clones, &control))
}

/// What an agent said of itself.
#[derive(Debug, Default)]
struct Report {
    name: &'static str,
    generation: String,
    outdated: String,
    wakes: String,
    secret: String,
    rng: String,
    guarded: String,
    unguarded: String,
}

impl Report {
    fn ask(agent: &mut Agent, name: &'static str) -> Result<Self> {
        agent.machine.send("report")?;
        let message = agent.expect("report")?;
        println!("# {name}: {message}");
        Ok(Self {
            outdated: message.value("outdated")?,
            wakes: message.value("wakes")?,
            ..Self::of(&message, name)?
        })
    }

    /// What is said before the snapshot as well.
    fn of(message: &Message, name: &'static str) -> Result<Self> {
        Ok(Self {
            name,
            generation: message.value("generation")?,
            secret: message.value("secret")?,
            rng: message.value("rng")?,
            guarded: message.value("guarded")?,
            unguarded: message.value("unguarded")?,
            ..Self::default()
        })
    }
}

/// A clone, from its start to its last report.
struct Clone {
    report: Report,
    woke: String,
    rebuilt: String,
    acknowledged: String,
    settled: String,
    /// From the start of its QEMU to the line that says it woke.
    after: Duration,
}

/// The machine that is no clone.
struct Control {
    /// One a second.
    reports: Vec<Report>,
    /// What it said without being asked, which ended the observation.
    noise: Option<String>,
}

/// A guest with its agent, to be snapshotted and restored.
pub(super) struct Rig<'a> {
    vm: &'a Vm,
    kernel: &'a Kernel,
    dir: PathBuf,
    initrd: PathBuf,
}

impl<'a> Rig<'a> {
    fn new(vm: &'a Vm, kernel: &'a Kernel, source: Source) -> Result<Self> {
        let dir = vm.run_dir()?;
        let initrd = dir.join("restore.cpio");
        let mut image = guest::image(vm, "restore.sh")?;
        image.add_file("conformance", &guest::conformance(vm)?)?;
        if source == Source::Stock {
            image.add_file("sysgenid", &guest::command(vm)?)?;
        }
        if let Some(dialect) = source.dialect() {
            image.add_file("sysgenid.ko", &Driver::build(vm, kernel, None)?.module)?;
            image.add_text("abi", dialect.abi());
        }
        image.write(&initrd)?;
        Ok(Self {
            vm,
            kernel,
            dir,
            initrd,
        })
    }

    fn start(&self, name: &'static str, guid: &str, snapshot: Option<&str>) -> Result<Agent> {
        let (dir, initrd): (&Path, &Path) = (&self.dir, &self.initrd);
        let config = Config {
            name,
            kernel: self.kernel,
            guid: Some(guid),
            initrd,
            dir,
            snapshot,
            timeout: TIMEOUT,
            devices: &[],
            parameters: "",
        };
        Ok(Agent {
            machine: Machine::start(self.vm, &config)?,
        })
    }

    /// Boots a guest, and writes it to a file when its agent is ready. Returns what the agent said.
    pub(super) fn snapshot(&self) -> Result<Message> {
        let mut agent = self.start("source", GUID, None)?;
        let ready = agent.expect("ready")?;
        println!("# {ready}");
        agent.machine.qmp().migrate_to(SNAPSHOT)?;
        agent.machine.qmp().quit()?;
        agent.machine.wait()?;
        Ok(ready)
    }

    /// Restores the snapshot as another machine.
    pub(super) fn start_clone(&self, name: &'static str) -> Result<Agent> {
        self.start(name, "auto", Some(SNAPSHOT))
    }

    /// Restores the snapshot as the same machine, which must not notice.
    pub(super) fn start_control(&self) -> Result<Agent> {
        let mut agent = self.start("control", GUID, Some(SNAPSHOT))?;
        agent.machine.qmp().await_start()?;
        Ok(agent)
    }

    /// Restores the snapshot as another machine, and follows its agent until all is settled.
    fn clone_of(&self, name: &'static str) -> Result<Clone> {
        let start = Instant::now();
        let mut agent = self.start_clone(name)?;
        let woke = agent.expect("woke")?.value("generation")?;
        let after = start.elapsed();
        let rebuilt = agent.expect("rebuilt")?.value("secret")?;
        let acknowledged = agent.expect("acknowledged")?.value("generation")?;
        let settled = agent.expect("settled")?.value("generation")?;
        let report = Report::ask(&mut agent, name)?;
        agent.finish()?;
        Ok(Clone {
            report,
            woke,
            rebuilt,
            acknowledged,
            settled,
            after,
        })
    }

    /// Follows the agent in the control.
    fn control(&self) -> Result<Control> {
        let mut agent = self.start_control()?;
        let mut reports = Vec::new();
        for _ in 0..SILENCE {
            reports.push(Report::ask(&mut agent, "control")?);
            if let Some(noise) = agent.listen(Duration::from_secs(1))? {
                return Ok(Control {
                    reports,
                    noise: Some(noise),
                });
            }
        }
        reports.push(Report::ask(&mut agent, "control")?);
        agent.finish()?;
        Ok(Control {
            reports,
            noise: None,
        })
    }
}

fn print_table(source: &Report, clones: &[Clone; 2], control: &Control) {
    println!();
    let line = |[name, generation, wakes, secret, rng, guarded, unguarded]: [&str; 7]| {
        println!(
            "| {name:8} | {generation:10} | {wakes:5} | {secret:32} | {rng:16} | {guarded:16} | \
             {unguarded:16} |"
        );
    };
    let dashes = "-".repeat(32);
    let dash = |count| dashes.get(..count).unwrap_or_default();
    line([
        "machine",
        "generation",
        "wakes",
        "guarded secret",
        "sysgenid::rng()",
        "guarded ChaCha",
        "unguarded ChaCha",
    ]);
    line([8, 10, 5, 32, 16, 16, 16].map(dash));
    let row = |report: &Report| {
        line([
            report.name,
            &report.generation,
            &report.wakes,
            &report.secret,
            &report.rng,
            &report.guarded,
            &report.unguarded,
        ]);
    };
    row(source);
    clones.iter().for_each(|clone| row(&clone.report));
    // Its first report drew the number that the clones drew in theirs.
    control.reports.first().into_iter().for_each(row);
    println!();
    for clone in clones {
        println!(
            "# {} woke {:.1?} after its QEMU was started",
            clone.report.name, clone.after
        );
    }
    match &control.noise {
        None => println!("# the control was silent for {SILENCE} s"),
        Some(noise) => println!("# the control said {noise:?}"),
    }
}

/// The generation after this one.
fn next_of(generation: &str) -> Option<String> {
    let number: u32 = generation.parse().ok()?;
    Some(number.wrapping_add(1).to_string())
}

/// What must hold, each with a name.
fn judge(source: &Report, clones: &[Clone; 2], control: &Control) -> Tally {
    let all = |holds: &dyn Fn(&Clone) -> bool| clones.iter().all(holds);
    let [a, b] = clones.each_ref().map(|clone| &clone.report);
    let silent = |report: &Report| {
        report.generation == source.generation
            && report.secret == source.secret
            && report.wakes == "0"
            && report.outdated == "no"
    };
    // It continues where the snapshot left off, as a clone would that notices nothing.
    let default = Report::default();
    let unrestored = control.reports.first().unwrap_or(&default);
    let differ = |[a, b, c]: [&str; 3]| a != b && a != c && b != c;
    let checks = [
        (
            "blocked_watcher_wakes_in_each_clone",
            all(&|c| c.report.wakes == "1"),
        ),
        (
            "generation_is_new_in_each_clone",
            all(&|c| c.report.generation != source.generation),
        ),
        // Once for each restore, however many have seen it.
        (
            "generation_changes_once_in_each_clone",
            all(&|c| next_of(&source.generation) == Some(c.report.generation.clone())),
        ),
        (
            "watcher_saw_the_current_generation",
            all(&|c| c.woke == c.report.generation),
        ),
        (
            "secret_is_rebuilt_in_each_clone",
            all(&|c| c.rebuilt != source.secret),
        ),
        (
            "rebuilt_secret_is_the_one_in_use",
            all(&|c| c.rebuilt == c.report.secret),
        ),
        ("secrets_differ_between_the_clones", a.secret != b.secret),
        (
            "ack_is_accepted_in_each_clone",
            all(&|c| c.acknowledged == c.report.generation),
        ),
        (
            "nobody_is_outdated_in_each_clone",
            all(&|c| c.report.outdated == "no"),
        ),
        (
            "orchestrators_wait_returns_in_each_clone",
            all(&|c| c.settled == c.report.generation),
        ),
        (
            "numbers_of_the_guarded_generator_are_of_each_machine_alone",
            differ([&a.guarded, &b.guarded, &unrestored.guarded]),
        ),
        (
            "numbers_of_sysgenid_rng_are_of_each_machine_alone",
            differ([&a.rng, &b.rng, &unrestored.rng]),
        ),
        // The fault that all this is about. If it is gone, the clones were no clones.
        (
            "numbers_of_the_unguarded_generator_are_the_same_everywhere",
            a.unguarded == b.unguarded && a.unguarded == unrestored.unguarded,
        ),
        (
            "control_is_silent",
            control.noise.is_none() && control.reports.iter().all(silent),
        ),
    ];
    Tally::of_checks(&checks)
}
