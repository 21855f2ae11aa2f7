// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading the generation: the probes beside a bare volatile load of the same page, which is the
//! least that a program can do, and beside what others do.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::process::ExitCode;

use sysgenid::Probe;
use sysgenid_benches::{Bound, Bounds, Subject, aws_lc, repeat};

const PROBE: Bound = Bound::AtMost(1.02);
const PROCESS_WIDE: Bound = Bound::AtMost(1.5);
const AWS_LC: Bound = Bound::AtLeast(10.0);

fn main() -> ExitCode {
    let subject = Subject::new();
    let page = subject.page();
    let file = subject.file();
    let probe = Probe::open_at(subject.folder()).expect("a probe");
    let before = sysgenid::uniqueness();
    // As it is used: what is compared at once never gets to memory.
    let is_unique = || sysgenid::uniqueness() == before;
    let read = || {
        let mut counter = [0; 4];
        rustix::io::pread(&file, &mut counter, 0).expect("the counter");
        counter
    };

    let mut criterion = sysgenid_benches::criterion();
    let mut group = criterion.benchmark_group("read the generation");
    group.bench_function("bare volatile load", |b| b.iter(|| page.bare_load()));
    group.bench_function("sysgenid::Probe::generation", |b| {
        b.iter(|| probe.generation());
    });
    group.bench_function("sysgenid::generation", |b| b.iter(sysgenid::generation));
    group.bench_function("sysgenid::uniqueness, compared", |b| b.iter(is_unique));
    group.bench_function("AWS-LC, generation of the VM", |b| {
        b.iter(aws_lc::vm_generation);
    });
    group.bench_function("AWS-LC, of VM and process", |b| b.iter(aws_lc::generation));
    group.bench_function("pread(2) of the page file", |b| b.iter(read));
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    bounds.fact("AWS-LC", &aws_lc::describe());
    bounds.ratio(
        "`Probe::generation` to a bare volatile load",
        PROBE,
        || {},
        || repeat(|| probe.generation()),
        || repeat(|| page.bare_load()),
    );
    bounds.ratio(
        "`sysgenid::generation` to a bare volatile load",
        PROCESS_WIDE,
        || {},
        || repeat(sysgenid::generation),
        || repeat(|| page.bare_load()),
    );
    bounds.ratio(
        "AWS-LC's query of the VM generation to `sysgenid::generation`",
        AWS_LC,
        || {},
        || repeat(aws_lc::vm_generation),
        || repeat(sysgenid::generation),
    );
    bounds.ratio(
        "AWS-LC's query of both generations to `sysgenid::uniqueness`",
        AWS_LC,
        || {},
        || repeat(aws_lc::generation),
        || repeat(is_unique),
    );
    bounds.verdict()
}
