// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benches ran on, as far as it matters to the numbers.

use std::process::Command;

use crate::command;
use crate::error::{Context, Result};

/// Names and values.
pub(crate) fn describe() -> Result<Vec<(&'static str, String)>> {
    let processor = read("/proc/cpuinfo")?;
    let field = |name: &str| {
        let line = processor.lines().find(|line| line.starts_with(name))?;
        line.split_once(':').map(|(_, value)| value.trim())
    };
    let flags = field("flags").unwrap_or_default();
    let kind = if flags.split_whitespace().any(|flag| flag == "hypervisor") {
        "a virtual machine"
    } else {
        "no virtual machine"
    };
    let cores = std::thread::available_parallelism().context(|| "the number of cores")?;
    // Only the numbers: the rest of the name is whoever built it.
    let kernel = read("/proc/sys/kernel/osrelease")?;
    let kernel = kernel.trim().split(['-', '+']).next().unwrap_or_default();
    let compiler = command::output(Command::new("rustc").arg("--version"))?;
    Ok(vec![
        ("machine", kind.into()),
        ("processor", field("model name").unwrap_or("unnamed").into()),
        ("cores", cores.to_string()),
        ("kernel", format!("Linux {kernel}")),
        ("architecture", std::env::consts::ARCH.into()),
        ("compiler", compiler.trim().into()),
    ])
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).context(|| format!("cannot read {path}"))
}
