// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm debug`: the driver on a kernel with detectors, and proof that they are awake.

mod planted;
pub(crate) mod read;
mod reports;
mod source;

use self::reports::Detector;
use self::source::Source;
use super::driver::Variant;
use super::subject::{Backend, Dialect};
use super::suites::{Findings, Run};
use super::{Driver, Kernel, Vm, modules};
use crate::error::{Context, Result};
use crate::tally::Tally;

/// How many random sequences are compared with the model: it has been compared with more where
/// that takes less time.
const MODEL_CASES: u32 = 32;

const STRESS_SECONDS: u32 = 60;

/// Where the guest finds the parameters of the module that announces restores.
const ANNOUNCER: &str = "/sys/module/announcer/parameters";

/// A machine on the kernel with detectors.
struct Boot<'a> {
    name: &'a str,
    driver: &'a Driver,
    variant: &'a Variant,
    dialect: Dialect,
    backend: Backend,
    suites: &'a [&'a str],
    stress_seconds: u32,
}

/// What came of it.
struct Seen {
    findings: Findings,
    reports: Vec<(Detector, String)>,
    /// The lines that count operations.
    operations: Vec<String>,
}

const EVERYTHING: [&str; 8] = [
    "load", "raw", "typed", "model", "stress", "starve", "unload", "leaks",
];

/// What is run of it all.
#[derive(clap::Args)]
pub(crate) struct Part {
    /// Only plant this fault (a file of xtask/faults/detectors)
    #[arg(long, value_name = "NAME")]
    fault: Option<String>,
    /// Only this machine, and no faults
    #[arg(long, value_parser = ["v6", "v5", "in-hard-irq", "acpi"], conflicts_with = "fault")]
    only: Option<String>,
}

/// Runs everything on the driver as it is, then plants the faults; or a part of that.
pub(crate) fn run(vm: &Vm, part: &Part) -> Result<bool> {
    let source = Source::open(vm)?;
    let kernel = source.kernel()?;
    println!("# kernel {} with detectors", kernel.release);
    if let Some(name) = &part.fault {
        return planted::prove(vm, &kernel, name);
    }

    let build = |variant| Driver::build_variant(vm, &kernel, None, variant);
    let (plain, in_hard_irq, acpi) = (
        build(&Variant::PLAIN)?,
        build(&Variant::IN_HARD_IRQ)?,
        build(&Variant::ACPI)?,
    );
    let v6 = Boot {
        name: "debug-v6",
        driver: &plain,
        variant: &Variant::PLAIN,
        dialect: Dialect::V6,
        backend: Backend::Vmfork,
        suites: &EVERYTHING,
        stress_seconds: STRESS_SECONDS,
    };
    let boots = [
        Boot {
            name: "debug-v5",
            dialect: Dialect::V5,
            ..v6
        },
        Boot {
            name: "debug-in-hard-irq",
            driver: &in_hard_irq,
            variant: &Variant::IN_HARD_IRQ,
            suites: &["load", "stress", "leaks"],
            ..v6
        },
        Boot {
            name: "debug-acpi",
            driver: &acpi,
            variant: &Variant::ACPI,
            backend: Backend::Acpi,
            suites: &["load", "starve", "unload", "leaks"],
            ..v6
        },
        v6,
    ];
    let mut tally = Tally::default();
    let mut summary = Vec::new();
    let mut reports = 0;
    let is_wanted = |boot: &&Boot<'_>| {
        let name = part.only.as_ref();
        name.is_none_or(|name| boot.name == format!("debug-{name}"))
    };
    for boot in boots.iter().filter(is_wanted) {
        let seen = boot.run(vm, &kernel)?;
        reports += seen.reports.len();
        summary.push(format!("{}: {}", boot.name, seen.findings.tally));
        tally += seen.findings.tally;
        summary.extend(seen.operations);
        summary.extend(describe(&seen.reports));
    }
    let found = match part.only {
        Some(_) => Vec::new(),
        None => planted::prove_all(vm, &kernel)?,
    };

    for line in summary {
        println!("# {line}");
    }
    println!("# detector reports: {reports}");
    for fault in &found {
        println!("# {fault}");
    }
    println!("{tally}");
    Ok(tally.is_success() && reports == 0 && found.iter().all(planted::Planted::is_found))
}

fn describe(reports: &[(Detector, String)]) -> impl Iterator<Item = String> {
    reports
        .iter()
        .map(|(detector, line)| format!("report of {detector}: {line}"))
}

impl Boot<'_> {
    fn run(&self, vm: &Vm, kernel: &Kernel) -> Result<Seen> {
        let run = Run {
            name: self.name,
            kernel,
            driver: self.driver,
            dialect: self.dialect,
            backend: self.backend,
            suites: self.suites,
            planted: None,
            cases: MODEL_CASES,
            devices: &[],
        };
        let mut image = run.image(vm)?;
        let scripts = vm.workspace.root.join("xtask/guest");
        for script in ["detectors.sh", "leaks.sh"] {
            image.add_file(script, &scripts.join(script))?;
        }
        modules::add(vm, kernel, &["vmgenid"], &mut image)?;
        for module in self.variant.modules {
            let file = format!("{module}.ko");
            image.add_file(&file, &self.driver.module.with_file_name(&file))?;
        }
        let mut stress = format!("--seconds {}", self.stress_seconds);
        if !self.variant.modules.is_empty() {
            stress.push_str(" --announcer ");
            stress.push_str(ANNOUNCER);
        }
        image.add_text("stress.arguments", &stress);
        // One word: the guest's shell takes it apart at spaces.
        let abi = self.dialect.abi();
        let starve = format!("--module /sysgenid.ko --with abi={abi}");
        image.add_text("starve.arguments", &starve);

        let mut operations = Vec::new();
        let findings = run.boot(vm, image, |line| {
            if let Some(counts) = line.strip_prefix("# stress: ") {
                operations.push(format!("{}: {counts}", self.name));
            }
        })?;
        let path = vm.run_dir()?.join(format!("{}.console", self.name));
        let console = std::fs::read(&path).context(|| format!("cannot read {}", path.display()))?;
        let console = String::from_utf8_lossy(&console);
        let reports = reports::find(&console).into_iter();
        let reports: Vec<_> = reports
            .map(|(detector, line)| (detector, line.to_owned()))
            .collect();
        for line in describe(&reports) {
            println!("# {line}");
        }
        if !reports.is_empty() {
            println!("# the whole of it is in {}", path.display());
        }
        Ok(Seen {
            findings,
            reports,
            operations,
        })
    }
}
