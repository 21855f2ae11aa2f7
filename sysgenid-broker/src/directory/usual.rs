// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::path::PathBuf;

use rustix::process::geteuid;
use sysgenid_sys::internal::environment;

/// Where clients look for the broker of this process's user: `/run/sysgenid` for root's, and for
/// another user's `$XDG_RUNTIME_DIR/sysgenid`. `None` if that variable is not set or is not an absolute
/// path, and in a program that was started with more rights than its caller has, whose environment the
/// caller has chosen.
///
/// ```
/// if let Some(directory) = sysgenid_broker::usual_directory() {
///     assert!(directory.ends_with("sysgenid"));
/// }
/// ```
#[must_use]
pub fn usual_directory() -> Option<PathBuf> {
    if geteuid().is_root() {
        return Some("/run/sysgenid".into());
    }
    environment::variable("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|parent| parent.is_absolute())
        .map(|parent| parent.join("sysgenid"))
}
