// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm test`: the conformance suites on the driver.

use std::borrow::Cow;
use std::time::Duration;

use super::initramfs::Initramfs;
use super::qemu::{Config, Machine, SUCCESS};
use super::subject::{Backend, Dialect};
use super::{Driver, Kernel, Vm, examples, guest};
use crate::error::Result;
use crate::failure::Failure;
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
    /// The one of them that a planted fault is to turn red.
    pub(crate) planted: Option<&'a str>,
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
        watch: impl FnMut(&str),
    ) -> Result<Findings> {
        let name = self.name;
        let dir = vm.run_dir()?;
        let initrd = dir.join(format!("{name}.cpio"));
        image.write(&initrd)?;

        let config = Config {
            name,
            kernel: self.kernel,
            guid: (self.backend != Backend::Trigger).then_some("auto"),
            initrd: &initrd,
            dir: &dir,
            snapshot: None,
            timeout: TIMEOUT,
            devices: self.devices,
            parameters: "",
        };
        listen(vm, &config, Listener::new(self.planted), self.suites, watch)
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
        // They are of the default dialect, as the page is.
        if self.dialect == Dialect::V6 {
            image.add_file("examples", &examples::program(vm)?)?;
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

/// Boots a machine whose first process runs suites, and passes on what the guest prints. Shows each
/// line to `watch`.
pub(crate) fn listen(
    vm: &Vm,
    config: &Config<'_>,
    mut listener: Listener,
    suites: &[&str],
    mut watch: impl FnMut(&str),
) -> Result<Findings> {
    let mut machine = Machine::start(vm, config)?;
    while let Some(line) = machine.line()? {
        listener.hear(&line);
        watch(&line);
    }
    let console = config.dir.join(format!("{}.console", config.name));
    let status = machine.wait()?;
    let mut findings = listener.finish(suites);
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

/// Follows the guest from suite to suite, and passes on what it prints.
#[derive(Default)]
pub(crate) struct Listener {
    planted: Option<String>,
    finished: Vec<String>,
    current: Option<(String, Report)>,
    passed: bool,
    tally: Tally,
    red: Vec<String>,
    skipped: u64,
}

impl Listener {
    /// With a suite that a planted fault is to turn red. Nobody should take that for a failure.
    pub(crate) fn new(planted: Option<&str>) -> Self {
        Self {
            planted: planted.map(str::to_owned),
            ..Self::default()
        }
    }

    pub(crate) fn hear(&mut self, line: &str) {
        self.follow(line);
        println!("{}", self.shown(line));
    }

    fn shown<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let current = self.current.as_ref().map(|(name, _)| name);
        if current.is_none() || current != self.planted.as_ref() {
            return line.into();
        }
        match line.strip_prefix("not ok") {
            Some(test) => format!("# planted: red{test}").into(),
            None => format!("# planted: {line}").into(),
        }
    }

    fn follow(&mut self, line: &str) {
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
        let mut tally = report.tally().within(&name);
        let fault = report.fault().or_else(|| {
            let ended = end == format!("{name} 0");
            (!ended && tally.failures.is_empty())
                .then(|| format!("it ended with {:?}", end.trim_start_matches(&name).trim()))
        });
        self.red
            .extend(tally.failures.iter().map(|case| case.name.clone()));
        if let Some(fault) = fault {
            println!("# suite {name} failed: {fault}");
            tally = tally.finish(false);
            tally.failures.push(Failure::of(&*name, &fault));
        }
        self.skipped += report.skipped();
        self.tally += tally;
        self.finished.push(name);
    }

    pub(crate) fn finish(mut self, suites: &[&str]) -> Findings {
        self.end("");
        if self.finished != suites {
            println!("# the guest ran {:?}, and not {suites:?}", self.finished);
            self.tally = self.tally.finish(false);
            let missing = suites
                .iter()
                .filter(|&&suite| self.finished.iter().all(|finished| finished != suite));
            let failures = missing.map(|&suite| Failure::of(suite, "it was not run"));
            self.tally.failures.extend(failures);
        }
        self.tally = self.tally.finish(self.passed);
        Findings {
            tally: self.tally,
            red: self.red,
            skipped: self.skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finish(planted: Option<&str>, lines: &[&str], suites: &[&str]) -> Findings {
        let mut listener = Listener::new(planted);
        lines.iter().for_each(|line| listener.hear(line));
        listener.finish(suites)
    }

    #[test]
    fn a_failed_case_is_named_with_its_suite_and_its_reason() {
        let lines = [
            "# suite typed",
            "1..2",
            "ok 1 - opens",
            "not ok 2 - wakes",
            "# after 20s",
            "# end typed 1",
        ];
        let findings = finish(None, &lines, &["typed"]);
        assert_eq!(findings.red, ["typed/wakes"]);
        let failures = [Failure::of("typed/wakes", "after 20s")];
        assert_eq!(findings.tally.failures, failures);
    }

    #[test]
    fn a_suite_that_breaks_off_or_is_not_run_is_a_failure_by_name() {
        let lines = ["# suite typed", "1..2", "ok 1 - opens", "# end typed 137"];
        let findings = finish(None, &lines, &["typed", "async"]);
        assert!(!findings.tally.is_success());
        let failures = [
            Failure::of("typed", "it planned 2 cases and reported 1"),
            Failure::of("async", "it was not run"),
        ];
        assert_eq!(findings.tally.failures, failures);
    }

    #[test]
    fn what_a_planted_fault_turns_red_does_not_look_like_a_failure() {
        let mut listener = Listener::new(Some("raw"));
        for (line, shown) in [
            ("# suite raw", "# planted: # suite raw"),
            ("not ok 1 - wakes", "# planted: red 1 - wakes"),
            ("ok 2 - opens", "# planted: ok 2 - opens"),
            ("# end raw 1", "# end raw 1"),
            ("# suite typed", "# suite typed"),
            ("not ok 1 - waits", "not ok 1 - waits"),
        ] {
            listener.follow(line);
            assert_eq!(listener.shown(line), shown);
        }
        let red = listener.finish(&["raw", "typed"]).red;
        assert_eq!(red, ["raw/wakes", "typed/waits"]);
    }
}
