// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drawing random numbers where no source shows restores: each draw is the system call.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::process::ExitCode;

use sysgenid::rand_core::Rng;
use sysgenid_benches::{Bound, Bounds, repeat, without_source};
use sysgenid_sys::internal::entropy::getrandom;

const SYSTEM_CALL: Bound = Bound::AtMost(1.1);

fn main() -> ExitCode {
    without_source();
    let mut criterion = sysgenid_benches::criterion();
    let mut group = criterion.benchmark_group("draw 16 random bytes");
    group.bench_function("sysgenid::rng without a source", |b| {
        b.iter(of_the_generator)
    });
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    bounds.ratio(
        "16 bytes of `sysgenid::rng` without a source to 16 of getrandom(2)",
        SYSTEM_CALL,
        || {},
        || repeat(of_the_generator),
        || repeat(of_the_kernel),
    );
    bounds.verdict()
}

fn of_the_generator() -> [u8; 16] {
    let mut bytes = [0; 16];
    sysgenid::rng().fill_bytes(&mut bytes);
    bytes
}

fn of_the_kernel() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom(&mut bytes).expect("the kernel's bytes");
    bytes
}
