// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Drawing random numbers: the generator that looks for a change at each draw beside rand's, which
//! does not, and beside others that do.
#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::hint::black_box;
use std::process::ExitCode;

use rand::Rng;
use rand::rngs::StdRng;
use sysgenid::rand_core::UnwrapErr;
use sysgenid::{ProcessWide, SnapshotSafeRng};
use sysgenid_benches::{Bound, Bounds, Subject, aws_lc, repeat};
use sysgenid_sys::internal::entropy::getrandom;

const RAND: Bound = Bound::AtMost(1.05);
const AWS_LC: Bound = Bound::AtLeast(20.0);

fn main() -> ExitCode {
    let _subject = Subject::new();
    let mut ours = sysgenid::rng();
    let mut theirs = rand::rng();
    let own = SnapshotSafeRng::<StdRng>::new(ProcessWide).expect("entropy");
    let mut own = UnwrapErr(own);

    let mut criterion = sysgenid_benches::criterion();
    let mut group = criterion.benchmark_group("draw 16 random bytes");
    group.bench_function("sysgenid::rng", |b| b.iter(|| bytes(&mut ours)));
    group.bench_function("rand::rng", |b| b.iter(|| bytes(&mut theirs)));
    group.bench_function("sysgenid::SnapshotSafeRng<StdRng>", |b| {
        b.iter(|| bytes(&mut own));
    });
    group.bench_function("AWS-LC", |b| b.iter(of_aws_lc));
    group.bench_function("getrandom(2)", |b| b.iter(of_the_kernel));
    group.finish();

    let mut group = criterion.benchmark_group("draw other sizes");
    group.bench_function("sysgenid::rng, u32", |b| b.iter(|| ours.next_u32()));
    group.bench_function("rand::rng, u32", |b| b.iter(|| theirs.next_u32()));
    group.bench_function("sysgenid::rng, u64", |b| b.iter(|| ours.next_u64()));
    group.bench_function("rand::rng, u64", |b| b.iter(|| theirs.next_u64()));
    let mut kibibyte = [0; 1024];
    group.bench_function("sysgenid::rng, 1 KiB", |b| {
        b.iter(|| ours.fill_bytes(black_box(&mut kibibyte)));
    });
    group.bench_function("rand::rng, 1 KiB", |b| {
        b.iter(|| theirs.fill_bytes(black_box(&mut kibibyte)));
    });
    group.bench_function("AWS-LC, 1 KiB", |b| {
        b.iter(|| aws_lc::draw(black_box(&mut kibibyte)));
    });
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    bounds.ratio(
        "16 bytes of `sysgenid::rng` to 16 of `rand::rng`",
        RAND,
        || {},
        || repeat(|| bytes(&mut ours)),
        || repeat(|| bytes(&mut theirs)),
    );
    bounds.ratio(
        "the same, by a handle that is got for each draw",
        RAND,
        || {},
        || repeat(|| bytes(&mut sysgenid::rng())),
        || repeat(|| bytes(&mut rand::rng())),
    );
    bounds.ratio(
        "16 bytes of AWS-LC to 16 of `sysgenid::rng`",
        AWS_LC,
        || {},
        || repeat(of_aws_lc),
        || repeat(|| bytes(&mut ours)),
    );
    bounds.verdict()
}

fn bytes(rng: &mut impl Rng) -> [u8; 16] {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn of_aws_lc() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc::draw(&mut bytes);
    bytes
}

fn of_the_kernel() -> [u8; 16] {
    let mut bytes = [0; 16];
    getrandom(&mut bytes).expect("the kernel's bytes");
    bytes
}
