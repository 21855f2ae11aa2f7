// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm hostile`: attacks on the userspace driver, on a kernel that cannot refuse the file descriptors
//! that clients send to it. Linux can since 6.16.

use std::time::Duration;

use super::qemu::Config;
use super::suites::{self, Listener};
use super::{Kernel, Vm, guest};
use crate::error::Result;
use crate::tally::Tally;

/// Attackers have the kernel keep 256 MiB in a file.
const MEMORY: &str = "1024M";

const TIMEOUT: Duration = Duration::from_secs(60 * 60);

#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Run only the cases whose name contains this
    #[arg(long = "case", default_value = "", value_name = "PART")]
    cases: String,
}

pub(crate) fn run(vm: &Vm, kernel: &Kernel, args: &Args) -> Result<Tally> {
    let dir = vm.run_dir()?;
    let initrd = dir.join("hostile.cpio");
    let scripts = vm.workspace.root.join("xtask/guest");
    let mut image = guest::image(vm, "hostile.sh")?;
    image.add_file("suite.sh", &scripts.join("suite.sh"))?;
    image.add_file("conformance", &guest::conformance(vm)?)?;
    // A case looks at what it prints.
    image.add_file("sysgenid", &guest::command(vm)?)?;
    image.write(&initrd)?;

    let config = Config {
        name: "hostile",
        kernel,
        guid: None,
        initrd: &initrd,
        dir: &dir,
        snapshot: None,
        timeout: TIMEOUT,
        devices: &["-m", MEMORY],
        parameters: &format!("cases={}", args.cases),
    };
    let findings = suites::listen(vm, &config, Listener::default(), &["hostile"], |_| {})?;
    Ok(findings.tally)
}
