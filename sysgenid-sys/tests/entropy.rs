// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes come by the system call: this program replaces the C library's `getrandom`, and the
//! replacement must not be called.
#![cfg(target_os = "linux")]

use std::ffi::{c_uint, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use sysgenid_sys::internal::entropy::getrandom;

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Returns the same bytes at each call, as a copied generator does.
#[unsafe(export_name = "getrandom")]
extern "C" fn of_the_library(bytes: *mut c_void, length: usize, _flags: c_uint) -> isize {
    CALLS.fetch_add(1, Ordering::Relaxed);
    // SAFETY: The caller passes a buffer of this length.
    unsafe { bytes.cast::<u8>().write_bytes(7, length) };
    isize::try_from(length).unwrap_or(-1)
}

#[test]
fn the_library_is_not_asked() {
    let mut bytes = [0; 64];
    // SAFETY: The pointer and the length are those of `bytes`.
    let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!((count, bytes), (64, [7; 64]), "the control");

    let before = CALLS.load(Ordering::Relaxed);
    assert_eq!(getrandom(&mut bytes).unwrap(), 64);
    assert_eq!(CALLS.load(Ordering::Relaxed), before);
    assert_ne!(bytes, [7; 64]);
    assert_eq!(getrandom(&mut []).unwrap(), 0);
}
