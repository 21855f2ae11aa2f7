// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm test`: the conformance suites on the driver.

use std::time::Duration;

use super::initramfs::Initramfs;
use super::qemu::{Config, Machine, SUCCESS};
use super::subject::{Backend, Dialect};
use super::{Driver, Kernel, Vm, guest};
use crate::error::Result;
use crate::tally::Tally;
use crate::tap::Report;

/// What the guest must run, in this order. A suite that is left out is a failure, not a success.
pub(crate) const SUITES: [&str; 7] = ["load", "raw", "typed", "async", "bumps", "model", "unload"];

/// How many random sequences are compared with the model, unless asked otherwise.
pub(crate) const MODEL_CASES: u32 = 256;

const TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// What the suites found.
pub(crate) struct Findings {
    pub(crate) tally: Tally,
    /// The cases that failed or were skipped, as `suite/case`.
    pub(crate) red: Vec<String>,
    /// How many of them were skipped.
    pub(crate) skipped: u64,
}

/// Some of the suites, on a driver in a machine.
pub(crate) struct Run<'a> {
    /// What messages, the image and the log call it.
    pub(crate) name: &'a str,
    pub(crate) kernel: &'a Kernel,
    pub(crate) driver: &'a Driver,
    pub(crate) dialect: Dialect,
    pub(crate) backend: Backend,
    pub(crate) suites: &'a [&'a str],
    /// How many random sequences are compared with the model.
    pub(crate) cases: u32,
    /// What the machine has besides, as arguments of QEMU.
    pub(crate) devices: &'a [&'a str],
}

impl Run<'_> {
    /// Boots the machine, and passes on what the guest prints.
    pub(crate) fn on(&self, vm: &Vm) -> Result<Findings> {
        self.boot(vm, self.image(vm)?, |_| {})
    }

    /// The same, with an image that may have more in it than all have. Shows each line to `watch`.
    pub(crate) fn boot(
        &self,
        vm: &Vm,
        image: Initramfs,
        mut watch: impl FnMut(&str),
    ) -> Result<Findings> {
        let name = self.name;
        let dir = vm.run_dir()?;
        let initrd = dir.join(format!("{name}.cpio"));
        image.write(&initrd)?;

        let mut machine = Machine::start(
            vm,
            &Config {
                name,
                kernel: self.kernel,
                guid: (self.backend != Backend::Trigger).then_some("auto"),
                initrd: &initrd,
                dir: &dir,
                snapshot: None,
                timeout: TIMEOUT,
                devices: self.devices,
                parameters: "",
            },
        )?;
        let mut listener = Listener::default();
        while let Some(line) = machine.line()? {
            println!("{line}");
            watch(&line);
            listener.hear(&line);
        }
        let console = dir.join(format!("{name}.console"));
        let status = machine.wait()?;
        let mut findings = listener.finish(self.suites);
        if status.code() != Some(SUCCESS) {
            // Failed cases explain themselves. A machine that ended for another reason does not.
            if findings.red.is_empty() {
                println!("# the guest did not end well: QEMU ended with {status}");
                println!("{}", super::qemu::tail(&console));
            }
            findings.tally = findings.tally.finish(false);
        }
        Ok(findings)
    }

    pub(crate) fn image(&self, vm: &Vm) -> Result<Initramfs> {
        let scripts = vm.workspace.root.join("xtask/guest");
        let mut image = guest::image(vm, "suites.sh")?;
        for script in ["suite.sh", "tap.sh", "load.sh", "unload.sh"] {
            image.add_file(script, &scripts.join(script))?;
        }
        for helper in ["hold", "ioctl32"] {
            image.add_file(helper, &guest::helper(vm, helper)?)?;
        }
        image.add_file("sysgenid.ko", &self.driver.module)?;
        image.add_file("conformance", &guest::conformance(vm)?)?;
        image.add_text("abi", self.dialect.abi());
        image.add_text("backend", &self.backend.to_string());
        image.add_text("suites", &self.suites.join(" "));
        image.add_text("cases", &self.cases.to_string());
        Ok(image)
    }
}

/// Follows the guest from suite to suite.
#[derive(Default)]
pub(crate) struct Listener {
    finished: Vec<String>,
    current: Option<(String, Report)>,
    passed: bool,
    tally: Tally,
    red: Vec<String>,
    skipped: u64,
}

impl Listener {
    pub(crate) fn hear(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("# suite ") {
            self.end("");
            self.current = Some((name.to_owned(), Report::default()));
        } else if let Some(end) = line.strip_prefix("# end ") {
            self.end(end);
        } else if line == "# PASS" {
            self.passed = true;
        } else if let Some((_, report)) = &mut self.current {
            report.add_line(line);
        }
    }

    /// Whether the guest has said that it is done, and that all went well.
    pub(crate) fn has_passed(&self) -> bool {
        self.passed
    }

    /// Ends the current suite, which must be what `end` says: its name and exit code 0.
    fn end(&mut self, end: &str) {
        let Some((name, report)) = self.current.take() else {
            return;
        };
        let mut tally = report.tally();
        let fault = report.fault().or_else(|| {
            let ended = end == format!("{name} 0");
            (!ended && report.red().is_empty())
                .then(|| format!("it ended with {:?}", end.trim_start_matches(&name).trim()))
        });
        if let Some(fault) = fault {
            println!("# suite {name} failed: {fault}");
            tally = tally.finish(false);
        }
        self.red
            .extend(report.red().iter().map(|case| format!("{name}/{case}")));
        self.skipped += report.skipped();
        self.tally += tally;
        self.finished.push(name);
    }

    pub(crate) fn finish(mut self, suites: &[&str]) -> Findings {
        self.end("");
        if self.finished != suites {
            println!("# the guest ran {:?}, and not {suites:?}", self.finished);
            self.tally = self.tally.finish(false);
        }
        self.tally = self.tally.finish(self.passed);
        Findings {
            tally: self.tally,
            red: self.red,
            skipped: self.skipped,
        }
    }
}
