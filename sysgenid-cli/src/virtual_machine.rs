// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether this is a virtual machine, as far as the kernel shows it.

use std::fs;
use std::path::Path;

/// What hypervisors call themselves, in files that arm64 and other machines have.
const VENDORS: [&str; 6] = [
    "QEMU",
    "Amazon EC2",
    "Google",
    "Microsoft Corporation",
    "VMware",
    "KubeVirt",
];

pub(crate) fn is_virtual_machine() -> bool {
    if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        return has_hypervisor(&processors);
    }
    let vendor = fs::read_to_string("/sys/class/dmi/id/sys_vendor").unwrap_or_default();
    VENDORS.iter().any(|it| vendor.starts_with(it))
        || Path::new("/proc/device-tree/hypervisor").exists()
}

/// The processor says that it is not the only one: the kernel shows that as a flag.
fn has_hypervisor(processors: &str) -> bool {
    processors
        .lines()
        .filter(|line| line.starts_with("flags"))
        .any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_is_a_word_of_its_line() {
        assert!(has_hypervisor(
            "processor\t: 0\nflags\t\t: fpu hypervisor lahf_lm\n"
        ));
        assert!(!has_hypervisor(
            "flags\t\t: fpu nohypervisor\nbugs\t\t: hypervisor\n"
        ));
    }
}
