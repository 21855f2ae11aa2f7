// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Takes each fast path as often as it is told to, and prints how often it allocated.
//!
//! `cargo xtask fastpath` runs this under callgrind, which counts instructions, and reads the
//! machine code of the functions in `paths`. It says with `SYSGENID_SOURCE` where a page is.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    reason = "a measurement that cannot be made says why and ends"
)]

mod allocations;
mod paths;

use serde_json::json;

/// Cargo turns the features on that any package of a build asks for. With this one the fast paths are
/// others.
const _: () = assert!(
    cfg!(debug_assertions) || !sysgenid::IS_TESTING,
    "the feature `testing` of sysgenid is on: build this package alone"
);

fn main() {
    let uses = std::env::args().nth(1).and_then(|uses| uses.parse().ok());
    let uses = uses.expect("how often to take each path, as an argument");
    for (name, mut path) in paths::all() {
        // What is built, seeded or found at the first use is not the fast path.
        path();
        let before = allocations::count();
        fastpath_measured(uses, &mut *path);
        let allocations = allocations::count() - before;
        println!(
            "{}",
            json!({ "path": name, "uses": uses, "allocations": allocations })
        );
    }
}

/// Callgrind counts from when this is entered until it is left, and knows it by its name.
// No other function of this program has that name.
#[unsafe(no_mangle)]
#[inline(never)]
fn fastpath_measured(uses: u32, path: &mut dyn FnMut()) {
    for _ in 0..uses {
        path();
    }
}
