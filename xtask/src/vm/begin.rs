// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Whether a machine came as far as our first program, and whether it may try again if not.
//!
//! An emulated kernel panics now and then while it starts: it patches its own code, and QEMU's
//! processors do not always agree on what they run. Nothing of ours is in the machine then, so nothing
//! is tested by it. Whatever happens after that is a result, and is never tried again.

/// What every guest says before it does anything else: see `xtask/guest/common.sh`.
pub(crate) const BEGUN: &str = "# begun";

/// Whether it was the kernel alone that ended a machine which has not said [`BEGUN`], by what is on
/// its console.
pub(crate) fn is_the_kernels_own_end(console: &str) -> bool {
    let has = |words| console.contains(words);
    has("Kernel panic - not syncing")
        // Our first program ran, or there was none to run.
        && !has("Comm: init")
        && !has("No working init")
        && !has("Requested init")
        // Our modules, and whatever else of ours a kernel may speak of.
        && !has("sysgenid")
        && !has("vmgenid_counter")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANIC: &str = "\
[    0.040000] int3: 0000 [#1] PREEMPT SMP NOPTI
[    0.040000] CPU: 0 PID: 0 Comm: swapper/0 Not tainted 6.12.63+deb13-amd64 #1
[    0.040000] RIP: 0010:sched_clock_cpu+0x7/0x1a0
[    0.040000] Kernel panic - not syncing: Fatal exception in interrupt
";

    #[test]
    fn a_panic_of_a_kernel_that_starts_is_its_own() {
        assert!(is_the_kernels_own_end(PANIC));
        // The thread that would become our first program.
        let thread = PANIC.replace("PID: 0 Comm", "PID: 1 Comm");
        let thread = thread.replace(
            "Fatal exception in interrupt",
            "Attempted to kill init! exitcode=0x0000000b",
        );
        assert!(is_the_kernels_own_end(&thread));
    }

    #[test]
    fn an_end_without_a_panic_is_not() {
        assert!(!is_the_kernels_own_end(""));
        assert!(!is_the_kernels_own_end("[    2.1] reboot: Power down\n"));
    }

    #[test]
    fn nothing_is_the_kernels_own_once_anything_of_ours_is_there() {
        for ours in [
            "[    2.1] sysgenid: loading out-of-tree module taints kernel.\n",
            "[    2.1] Modules linked in: vmgenid_counter(OE)\n",
            "[    2.1] CPU: 1 PID: 1 Comm: init Not tainted\n",
            "[    2.1] Kernel panic - not syncing: No working init found.\n",
            "[    2.1] Kernel panic - not syncing: Requested init /init failed (error -2).\n",
        ] {
            assert!(!is_the_kernels_own_end(&format!("{ours}{PANIC}")), "{ours}");
            assert!(!is_the_kernels_own_end(&format!("{PANIC}{ours}")), "{ours}");
        }
    }
}
