// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Plants a fault for each detector, to prove that it is awake.
//!
//! A fault is a patch in `xtask/faults/detectors`. Beside what it does, the text before the patch
//! says who reports it, in a line `Reported by:`, and in which suites, in a line `Shows in:`. Each
//! has a machine of its own: some detectors end at their first report, and take others with them.

use std::fmt;
use std::path::Path;

use super::super::driver::Variant;
use super::super::fault;
use super::super::subject::{Backend, Dialect};
use super::super::{Driver, Kernel, Vm};
use super::Boot;
use super::reports::Detector;
use crate::error::{Context, Result};

const FOLDER: &str = "xtask/faults/detectors";
const REPORTED_BY: &str = "Reported by: ";
const SHOWS_IN: &str = "Shows in: ";

/// Long enough for each call to be made some times, and most of them at the same time.
const STRESS_SECONDS: u32 = 10;

/// A fault that was planted, and what became of it.
pub(super) struct Planted {
    name: String,
    detector: Detector,
    report: Option<String>,
}

impl Planted {
    pub(super) fn is_found(&self) -> bool {
        self.report.is_some()
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, detector, .. } = self;
        match &self.report {
            Some(report) => write!(f, "planted {name}: reported by {detector}: {report}"),
            None => write!(f, "planted {name}: MISSED by {detector}"),
        }
    }
}

/// Whether the fault's detector reports it.
pub(super) fn prove(vm: &Vm, kernel: &Kernel, name: &str) -> Result<bool> {
    let planted = plant(vm, kernel, name)?;
    println!("# {planted}");
    Ok(planted.is_found())
}

pub(super) fn prove_all(vm: &Vm, kernel: &Kernel) -> Result<Vec<Planted>> {
    let names = fault::names_in(&vm.workspace.root.join(FOLDER))?;
    names.iter().map(|name| plant(vm, kernel, name)).collect()
}

fn plant(vm: &Vm, kernel: &Kernel, name: &str) -> Result<Planted> {
    let patch = vm.workspace.root.join(FOLDER).join(format!("{name}.patch"));
    let text =
        std::fs::read_to_string(&patch).context(|| format!("cannot read {}", patch.display()))?;
    let detector = Detector::named(said(&text, REPORTED_BY, &patch)?)
        .context(|| format!("{} names no detector", patch.display()))?;
    let suites: Vec<_> = said(&text, SHOWS_IN, &patch)?.split(' ').collect();

    // In hard interrupt context, because that is where most can go wrong.
    let variant = &Variant::IN_HARD_IRQ;
    let driver = Driver::build_variant(vm, kernel, Some(&patch), variant)?;
    let seen = Boot {
        name: &format!("planted-{name}"),
        driver: &driver,
        variant,
        dialect: Dialect::V6,
        backend: Backend::Vmfork,
        suites: &suites,
        stress_seconds: STRESS_SECONDS,
    }
    .run(vm, kernel)?;
    let mut reports = seen.reports.into_iter();
    Ok(Planted {
        name: name.to_owned(),
        detector,
        report: reports
            .find(|(by, _)| *by == detector)
            .map(|(_, report)| report),
    })
}

/// What a line of a patch says that begins so.
pub(super) fn said<'a>(text: &'a str, mark: &str, patch: &Path) -> Result<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(mark));
    line.context(|| format!("{} has no line {mark:?}", patch.display()))
}
