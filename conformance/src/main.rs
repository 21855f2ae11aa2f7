// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Runs a conformance suite and prints TAP. The exit code is 0 only if every case that can run on
//! this machine passed, and one did.

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::exit;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use sysgenid::SourceKind;
use sysgenid_conformance::suite::{self, Case, Summary};
use sysgenid_conformance::{
    agents, asynchronous, bumps, child, criu, hammer, hostile, model, process, raw, starve, stress,
    typed,
};
use sysgenid_sys::abi::Dialect;

/// For a comparison as a whole, which has many sequences.
const MODEL_LIMIT: Duration = Duration::from_secs(480);

/// For a call that is made once for each of its allocations, of which loading has hundreds.
const STARVE_LIMIT: Duration = Duration::from_secs(1200);

#[derive(Parser)]
#[command(about, version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// System calls on the kernel driver's node; needs root
    Raw {
        #[command(flatten)]
        filter: Filter,
        /// The node
        #[arg(long)]
        device: PathBuf,
        #[command(flatten)]
        speaks: Speaks,
    },
    /// The SDK, over the kernel driver or the userspace driver
    Typed {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        speaks: Speaks,
        /// The driver tells nothing in sysfs and fdinfo, as the shipped ones
        #[arg(long, conflicts_with = "broker")]
        silent: bool,
    },
    /// The SDK in tokio's runtimes, over the kernel driver or the userspace driver
    Async {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        speaks: Speaks,
    },
    /// The agent in the machine that `cargo xtask vm restore` restores
    RestoreGuest {
        /// The node; without it, the machine has no source
        #[arg(long)]
        device: Option<PathBuf>,
    },
    /// System calls on the node of the hypervisor's counter; `cargo xtask vm counter` is its host
    Vmgenid {
        #[command(flatten)]
        filter: Filter,
        /// The node
        #[arg(long)]
        device: PathBuf,
    },
    /// System calls on mainline's clock; `cargo xtask vm vmclock` is its host
    Vmclock {
        #[command(flatten)]
        filter: Filter,
        /// The node
        #[arg(long)]
        device: PathBuf,
    },
    /// The SDK, over a counter of the hypervisor's; `cargo xtask vm counter` and `vm vmclock` are its
    /// hosts
    Hypervisor {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        counter: HypervisorCounter,
    },
    /// The agent that spins on a counter of the hypervisor's while the machine is restored
    FirstLoad {
        #[command(flatten)]
        counter: HypervisorCounter,
        /// The node of the watcher beside it
        #[arg(long)]
        sysgenid: PathBuf,
        /// The physical address at which it notes its turn
        #[arg(long)]
        turns: u64,
    },
    /// The agent on a machine with a vmclock that has no generation counter
    VmclockGuest {
        /// The node of the clock
        #[arg(long)]
        device: PathBuf,
        /// The node of the driver beside it
        #[arg(long)]
        sysgenid: PathBuf,
    },
    /// Random operations, compared with the model of the device
    Model {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        source: Source,
        #[command(flatten)]
        speaks: Speaks,
        /// How many sequences of operations
        #[arg(long, default_value_t = 256)]
        cases: u32,
        /// Where the random numbers begin
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// What a process knows of itself, across every way of forking
    Process {
        #[command(flatten)]
        filter: Filter,
        /// Whether memory can be emptied in a forked child
        #[arg(long, value_enum, default_value_t = process::Sandbox::None)]
        sandbox: process::Sandbox,
    },
    /// A process that CRIU has copied; needs root
    Criu {
        #[command(flatten)]
        filter: Filter,
        /// A word of the command that starts CRIU; once for each
        #[arg(long, required = true, value_name = "WORD")]
        criu: Vec<OsString>,
        /// Copies a Python program, run by this interpreter, which has the package
        #[arg(long)]
        python: Option<PathBuf>,
        /// Copies services in Python instead, with the package and without
        #[arg(long, requires = "python")]
        services: bool,
    },
    /// The process that CRIU copies
    CriuSubject {
        /// Where it finds its orders, and reports
        folder: PathBuf,
    },
    /// Everything at once, from several threads, at random; needs root
    Stress {
        /// The node
        #[arg(long)]
        device: PathBuf,
        #[command(flatten)]
        speaks: Speaks,
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// How many threads
        #[arg(long, default_value_t = 8)]
        threads: u32,
        /// Where the random numbers begin
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The parameters in sysfs of the test module that announces restores
        #[arg(long, value_name = "DIR")]
        announcer: Option<PathBuf>,
    },
    /// Guarded values, while another process changes a page a million times a second
    Hammer {
        /// How long
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// How many threads
        #[arg(long, default_value_t = 8)]
        threads: u32,
    },
    /// Watchers in a tokio runtime, while the generation changes a million times
    Bumps {
        /// The kernel driver's node; without it, a broker is started, in a process of its own
        #[arg(long)]
        device: Option<PathBuf>,
        #[command(flatten)]
        speaks: Speaks,
        /// How many changes
        #[arg(long, default_value_t = 1_000_000)]
        changes: u32,
        /// How many watchers
        #[arg(long, default_value_t = 64)]
        watchers: u32,
        /// Where the random numbers begin
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Calls with each of their allocations failing in turn; needs root, and fault injection
    Starve {
        #[command(flatten)]
        filter: Filter,
        /// The node
        #[arg(long)]
        device: PathBuf,
        #[command(flatten)]
        speaks: Speaks,
        /// The driver, which is loaded already
        #[arg(long, value_name = "FILE")]
        module: PathBuf,
        /// What it is loaded with
        #[arg(long, value_name = "PARAMETERS", default_value = "")]
        with: String,
    },
    /// Attacks on the userspace driver; needs root, or a user namespace with several users
    Hostile {
        #[command(flatten)]
        filter: Filter,
        /// Start a broker in a separate process for each case
        #[arg(long, required = true)]
        broker: bool,
    },
    /// A process of a hostile case
    #[command(hide = true)]
    Play(hostile::Play),
    /// What the program runs itself again for
    #[command(hide = true)]
    Child {
        role: child::Role,
        path: Option<PathBuf>,
    },
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct HypervisorCounter {
    /// The node of the counter beside the VM generation id
    #[arg(long)]
    vmgenid: Option<PathBuf>,
    /// The node of a vmclock
    #[arg(long)]
    vmclock: Option<PathBuf>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Source {
    /// The kernel driver's node
    #[arg(long)]
    device: Option<PathBuf>,
    /// The folder of a broker that runs; without it, one is started
    #[arg(long, value_name = "DIR", num_args = 0..=1, conflicts_with = "dialect")]
    broker: Option<Option<PathBuf>>,
}

impl HypervisorCounter {
    /// The node, and what kind of source it is to be.
    fn node(self) -> Result<(PathBuf, SourceKind), Box<dyn Error>> {
        match (self.vmgenid, self.vmclock) {
            (Some(path), _) => Ok((path, SourceKind::Vmgenid)),
            (None, Some(path)) => Ok((path, SourceKind::Vmclock)),
            (None, None) => Err("no counter is named".into()),
        }
    }
}

impl Source {
    /// The path of the source, and what keeps it there.
    fn path(self) -> Result<(PathBuf, Option<OwnBroker>), Box<dyn Error>> {
        match (self.device, self.broker.flatten()) {
            (Some(path), _) | (None, Some(path)) => Ok((path, None)),
            (None, None) => {
                let own = OwnBroker::start()?;
                Ok((own.folder.path().to_owned(), Some(own)))
            }
        }
    }
}

#[derive(clap::Args)]
struct Speaks {
    /// The dialect that the node is to speak
    #[arg(long, value_enum, default_value_t = SpokenDialect::V6)]
    dialect: SpokenDialect,
}

#[derive(Clone, Copy, ValueEnum)]
enum SpokenDialect {
    V5,
    V6,
}

impl From<Speaks> for Dialect {
    fn from(speaks: Speaks) -> Self {
        match speaks.dialect {
            SpokenDialect::V5 => Self::V5,
            SpokenDialect::V6 => Self::V6,
        }
    }
}

/// A broker in a temporary folder.
struct OwnBroker {
    _broker: sysgenid_broker::Background,
    folder: tempfile::TempDir,
}

impl OwnBroker {
    fn start() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let broker = sysgenid_broker::spawn(folder.path())?;
        Ok(Self {
            _broker: broker,
            folder,
        })
    }
}

#[derive(clap::Args)]
struct Filter {
    /// Run only the cases whose name contains this
    #[arg(long = "case", default_value = "")]
    part: String,
    /// Print the names and run nothing
    #[arg(long)]
    list: bool,
}

impl Filter {
    fn run<S: Clone + Send + 'static>(
        &self,
        subject: &S,
        cases: impl Iterator<Item = &'static Case<S>>,
        limit: Duration,
    ) -> io::Result<Summary> {
        self.run_where(subject, cases, limit, &|_| None)
    }

    /// Runs those cases for whose name `cannot_run` returns no reason.
    fn run_where<S: Clone + Send + 'static>(
        &self,
        subject: &S,
        cases: impl Iterator<Item = &'static Case<S>>,
        limit: Duration,
        cannot_run: &dyn Fn(&str) -> Option<String>,
    ) -> io::Result<Summary> {
        let cases: Vec<_> = cases
            .filter(|case| case.name.contains(&self.part))
            .collect();
        // Not locked: a case may add a comment.
        let mut out = io::stdout();
        if self.list {
            for case in &cases {
                writeln!(out, "{}", case.name)?;
            }
            return Ok(Summary {
                cases: cases.len(),
                ..Summary::default()
            });
        }
        suite::run(&mut out, subject, &cases, limit, cannot_run)
    }
}

fn main() {
    let is_success = match run(Cli::parse().command) {
        Ok(is_success) => is_success,
        Err(error) => {
            println!("Bail out! {error}");
            false
        }
    };
    // Does not wait for the threads of cases that hung.
    exit(i32::from(!is_success));
}

fn run(command: Command) -> Result<bool, Box<dyn Error>> {
    let summary = match command {
        Command::Raw {
            device,
            speaks,
            filter,
        } => {
            let dialect = speaks.into();
            for note in raw::NOTES {
                println!("# note: {note}");
            }
            let node = raw::Node::new(device, dialect);
            filter.run(&node, raw::cases(dialect), suite::LIMIT)?
        }
        Command::Typed {
            source,
            speaks,
            silent,
            filter,
        } => {
            let (path, _broker) = source.path()?;
            let dialect = speaks.into();
            let subject = typed::Subject::new(path, dialect);
            filter.run(
                &subject,
                typed::cases(subject.kind()?, dialect, silent),
                suite::LIMIT,
            )?
        }
        Command::Async {
            source,
            speaks,
            filter,
        } => {
            let (path, _broker) = source.path()?;
            let dialect = speaks.into();
            let subject = typed::Subject::new(path, dialect);
            filter.run(
                &subject,
                asynchronous::cases(subject.kind()?, dialect),
                suite::LIMIT,
            )?
        }
        Command::RestoreGuest { device } => {
            let ended = match device {
                Some(device) => agents::restore::run(&device),
                None => agents::restore::run_without_source(),
            };
            ended.map_err(|error| -> Box<dyn Error> { error })?;
            return Ok(true);
        }
        Command::Vmgenid { device, filter } => {
            let node = raw::vmgenid::Node::new(device);
            filter.run(&node, raw::vmgenid::cases(), suite::LIMIT)?
        }
        Command::Vmclock { device, filter } => {
            let node = raw::vmclock::Node::new(device);
            filter.run(&node, raw::vmclock::cases(), suite::LIMIT)?
        }
        Command::Hypervisor { counter, filter } => {
            let (path, kind) = counter.node()?;
            let subject = typed::hypervisor::Subject::new(path, kind);
            filter.run(&subject, typed::hypervisor::cases(kind), suite::LIMIT)?
        }
        Command::FirstLoad {
            counter,
            sysgenid,
            turns,
        } => {
            let (path, _) = counter.node()?;
            agents::first_load::run(&path, &sysgenid, turns)
                .map_err(|error| -> Box<dyn Error> { error })?;
            return Ok(true);
        }
        Command::VmclockGuest { device, sysgenid } => {
            agents::vmclock::run(&device, &sysgenid)
                .map_err(|error| -> Box<dyn Error> { error })?;
            return Ok(true);
        }
        Command::Model {
            source,
            speaks,
            filter,
            cases,
            seed,
        } => {
            let (path, _broker) = source.path()?;
            let source = typed::Subject::new(path, speaks.into());
            let kind = source.kind()?;
            let subject = model::Subject {
                source,
                sequences: cases,
                seed,
            };
            filter.run(&subject, model::cases(kind), MODEL_LIMIT)?
        }
        Command::Process { filter, sandbox } => {
            let folder = tempfile::tempdir()?;
            // SAFETY: Nothing has started a thread, nor looked.
            let subject = unsafe { process::Subject::new(folder.path(), sandbox) }?;
            let all = process::can_make_pid_namespaces();
            let cannot_run = |name: &str| {
                let cannot = !all && process::IN_PID_NAMESPACES.contains(&name);
                cannot.then(|| "no pid namespace can be made here".to_owned())
            };
            let cases = process::cases(sandbox);
            filter.run_where(&subject, cases, suite::LIMIT, &cannot_run)?
        }
        Command::Criu {
            filter,
            criu,
            python,
            services,
        } => match python {
            Some(python) if services => {
                let services = criu::Services::make(&criu, &python)?;
                filter.run(&services, criu::service_cases(), suite::LIMIT)?
            }
            python => {
                let program = python.map_or(criu::Program::Rust, criu::Program::Python);
                let copies = criu::Copies::make(&criu, &program)?;
                filter.run(&copies, criu::cases(), suite::LIMIT)?
            }
        },
        Command::CriuSubject { folder } => {
            criu::run_subject(&folder)?;
            return Ok(true);
        }
        Command::Stress {
            device,
            speaks,
            seconds,
            threads,
            seed,
            announcer,
        } => {
            let outcome = stress::run(&stress::Options {
                node: raw::Node::new(device, speaks.into()),
                duration: Duration::from_secs(seconds),
                threads,
                seed,
                announcer,
            });
            println!("# stress: {}", outcome.operations());
            println!("# stress: waits that were {}", outcome.waits());
            let cases: Vec<_> = stress::cases().collect();
            suite::run(&mut io::stdout(), &outcome, &cases, suite::LIMIT, &|_| None)?
        }
        Command::Hammer { seconds, threads } => {
            let outcome = hammer::run(&hammer::Options {
                duration: Duration::from_secs(seconds),
                threads,
            })?;
            println!("{outcome}");
            let cases: Vec<_> = hammer::cases().collect();
            suite::run(&mut io::stdout(), &outcome, &cases, suite::LIMIT, &|_| None)?
        }
        Command::Bumps {
            device,
            speaks: _,
            changes,
            watchers,
            seed,
        } => {
            let outcome = bumps::run(&bumps::Options {
                path: device,
                changes,
                watchers,
                seed,
            })?;
            println!("{outcome}");
            let cases: Vec<_> = bumps::cases().collect();
            suite::run(&mut io::stdout(), &outcome, &cases, suite::LIMIT, &|_| None)?
        }
        Command::Starve {
            device,
            speaks,
            filter,
            module,
            with,
        } => {
            let subject = starve::Subject {
                node: raw::Node::new(device, speaks.into()),
                module: starve::Module {
                    file: module,
                    parameters: with,
                },
            };
            filter.run(&subject, starve::cases(), STARVE_LIMIT)?
        }
        Command::Hostile { filter, broker: _ } => {
            if let Some(status) = hostile::run_in_user_namespace() {
                return Ok(status.success());
            }
            let subject = hostile::Subject::new();
            let all = subject.has_users();
            let cannot_run = |name: &str| {
                let cannot = !all && hostile::OF_SEVERAL_USERS.contains(&name);
                cannot.then(|| "needs root or a user namespace with several users".to_owned())
            };
            filter.run_where(&subject, hostile::cases(), *hostile::LIMIT, &cannot_run)?
        }
        Command::Play(play) => {
            play.run();
            return Ok(true);
        }
        Command::Child { role, path } => {
            child::play(role, path);
            return Ok(true);
        }
    };
    Ok(summary.is_success())
}
