// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The client that there was before: AWS-LC, which looks at the system generation before each draw
//! of random bytes.
//!
//! It maps the path that was compiled into it. `.cargo/config.toml` has it compiled with a relative
//! one, so that it maps the page of whatever folder the bench is in when it first looks.

use std::ffi::{CStr, c_char, c_int};
use std::io;
use std::path::Path;

// Its functions for the generation are exported, and declared in its own headers, but are not among
// the bindings of the crate. Each has the crate's prefix.
unsafe extern "C" {
    #[link_name = "aws_lc_0_47_0_CRYPTO_get_vm_ube_generation"]
    fn get_vm_ube_generation(generation: *mut u32) -> c_int;
    #[link_name = "aws_lc_0_47_0_CRYPTO_get_vm_ube_active"]
    fn get_vm_ube_active() -> c_int;
    #[link_name = "aws_lc_0_47_0_CRYPTO_get_ube_generation_number"]
    fn get_ube_generation_number(generation: *mut u64) -> c_int;
    #[link_name = "aws_lc_0_47_0_CRYPTO_get_sysgenid_path"]
    fn get_sysgenid_path() -> *const c_char;
}

/// Has AWS-LC map the page in `folder`, which becomes the current folder, for good.
///
/// # Errors
///
/// Of changing the folder; or AWS-LC found nothing at its path, and its draws would be measured
/// without what is to be compared.
pub(crate) fn look_at(folder: &Path) -> io::Result<()> {
    std::env::set_current_dir(folder)?;
    // SAFETY: It takes nothing, and is safe to call from any thread.
    if unsafe { get_vm_ube_active() } == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "AWS-LC maps nothing at {}: build it with AWS_LC_SYS_CFLAGS of .cargo/config.toml",
        path()
    )))
}

/// What it is, and that it looks.
#[must_use]
pub fn describe() -> String {
    format!(
        "aws-lc-sys 0.47.0, active: it has mapped the broker's page, at its compiled-in path \
         `{}`",
        path()
    )
}

fn path() -> String {
    // SAFETY: It returns a string literal of its own.
    let path = unsafe { CStr::from_ptr(get_sysgenid_path()) };
    path.to_string_lossy().into_owned()
}

/// The generation of the system: what `sysgenid::generation` is.
#[inline]
#[must_use]
pub fn vm_generation() -> u32 {
    let mut generation = 0;
    // SAFETY: It writes a number to where it is told to, and is safe to call from any thread.
    unsafe { get_vm_ube_generation(&raw mut generation) };
    generation
}

/// Its number for changes of the system and forks together, which it asks for at each draw: what
/// `sysgenid::uniqueness` is.
#[inline]
#[must_use]
pub fn generation() -> u64 {
    let mut generation = 0;
    // SAFETY: As in `vm_generation`.
    unsafe { get_ube_generation_number(&raw mut generation) };
    generation
}

/// Draws random bytes.
///
/// # Panics
///
/// If it reports a failure, which it does not: it aborts instead.
#[inline]
pub fn draw(bytes: &mut [u8]) {
    // SAFETY: It writes `len` bytes to where the slice is, and is safe to call from any thread.
    let done = unsafe { aws_lc_sys::RAND_bytes(bytes.as_mut_ptr(), bytes.len()) };
    assert_eq!(done, 1, "AWS-LC draws");
}
