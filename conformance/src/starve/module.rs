// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Loading the driver.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::io::Errno;

use super::Subject;
use super::nth::Failing;
use super::within::Within;
use crate::cases;

cases! { Subject;
    load_fails_cleanly_at_every_allocation,
    load_with_every_option_fails_cleanly_at_every_allocation,
}

const NAME: &CStr = c"sysgenid";

/// The driver as a file.
#[derive(Clone, Debug)]
pub struct Module {
    /// Where it is.
    pub file: PathBuf,
    /// What it is loaded with.
    pub parameters: String,
}

/// Each that its own start leads to, that is. Afterwards there is no module, no node and no
/// attribute, and the next attempt may succeed.
fn load_fails_cleanly_at_every_allocation(subject: &Subject) {
    fail(subject, "");
}

fn load_with_every_option_fails_cleanly_at_every_allocation(subject: &Subject) {
    fail(subject, "hibernation=1");
}

fn fail(subject: &Subject, more: &str) {
    let module = &subject.module;
    let file = File::open(&module.file);
    let file = file.unwrap_or_else(|error| panic!("{}: {error}", module.file.display()));
    let parameters = CString::new(format!("{} {more}", module.parameters)).expect("it is text");
    let prepare = || {
        // At first, and when it did without what it could not have the last time.
        if is_loaded() {
            unload().expect("nobody uses it");
        }
    };
    // What the kernel allocates before that is its own affair, and not always in order: its
    // trace events warn, and count wrongly, if they cannot be set up. So is its interpreter of
    // ACPI's code, which follows a null pointer if it cannot copy an object.
    let within = Within::function("do_one_initcall", "acpi_evaluate_object");
    // A device whose name could not be had has none, which is invalid.
    let allowed = [Errno::NOMEM, Errno::FAULT, Errno::INVAL];
    let tally = Failing::new().each(&allowed, prepare, || load(&file, &parameters));
    drop(within);
    println!("# load {more}: {tally:?}");
    assert_ne!(tally.failed, 0, "nothing was made to fail");
    // The last attempt was left alone.
    assert_eq!(subject.node.open().wait(1), Ok(()));
}

fn load(module: &File, parameters: &CStr) -> Result<(), Errno> {
    // SAFETY: The descriptor is open, the text ends with a zero, and there are no flags.
    let loaded = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            module.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    };
    result(loaded)
}

fn unload() -> Result<(), Errno> {
    // SAFETY: The text ends with a zero.
    let unloaded =
        unsafe { libc::syscall(libc::SYS_delete_module, NAME.as_ptr(), libc::O_NONBLOCK) };
    result(unloaded)
}

fn result(returned: libc::c_long) -> Result<(), Errno> {
    if returned == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Errno::from_io_error(&error).expect("a call has just failed"))
}

fn is_loaded() -> bool {
    let modules = fs::read("/proc/modules").expect("modules are listed");
    let name = NAME.to_bytes();
    modules
        .split(|&byte| byte == b'\n')
        .any(|line| line.split(|&byte| byte == b' ').next() == Some(name))
}
