// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The package's own tests, on the kernel driver.

use super::{System, packages};
use crate::error::Result;
use crate::tally::Tally;
use crate::vm::subject::Dialect;
use crate::vm::suites::Run;

/// Those that fit a device. The guest's report is TAP, and a test that is skipped is red.
const SUITES: [&str; 1] = ["pytest"];

/// The root may fill half of it. Until it is unpacked, the image is there twice.
const MEMORY: &str = "512M";

pub(super) fn run(system: &System<'_>, dialect: Dialect) -> Result<Tally> {
    println!("# the package's tests, on {dialect}");
    let mut image = system.image("pytest.sh", dialect)?;
    image.add_folder("tools/", &packages::tools(system.vm, &system.root)?)?;
    let scripts = system.vm.workspace.root.join("xtask/guest");
    image.add_file("suite.sh", &scripts.join("suite.sh"))?;
    let sources = system.vm.workspace.root.join("sysgenid-py");
    // As they lie in the repository, below a root of its own.
    image.make_folder("src");
    image.make_folder("src/sysgenid-py");
    let licences = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY"];
    for name in ["README.md", "pyproject.toml"].into_iter().chain(licences) {
        image.add_file(&format!("src/sysgenid-py/{name}"), &sources.join(name))?;
    }
    image.add_folder("src/sysgenid-py/tests/", &sources.join("tests"))?;
    let reference = "docs/src/python-reference.md";
    image.make_folder("src/docs");
    image.make_folder("src/docs/src");
    image.add_file(
        &format!("src/{reference}"),
        &system.vm.workspace.root.join(reference),
    )?;
    let run = Run {
        name: &format!("pytest-{dialect}"),
        kernel: system.kernel,
        driver: &system.driver,
        dialect,
        backend: system.kernel.backend(),
        suites: &SUITES,
        planted: None,
        cases: 0,
        devices: &["-m", MEMORY],
    };
    let findings = run.boot(system.vm, image, |_| {})?;
    for case in &findings.red {
        println!("# {case}");
    }
    Ok(findings.tally)
}
