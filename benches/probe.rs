// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The probe beside a bare volatile load of the same page: what safety costs on the hot path.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::fs::File;
use std::hint::black_box;
use std::process::ExitCode;

use criterion::Criterion;
use memmap2::{MmapOptions, MmapRaw};
use sysgenid::{Guarded, Probe};
use sysgenid_benches::Bounds;

const BOUND: f64 = 1.05;

fn main() -> ExitCode {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let _broker = sysgenid_broker::spawn(folder.path()).expect("a broker");
    let probe = Probe::open_at(folder.path()).expect("a probe");
    let page = File::open(folder.path().join("page")).expect("the page");
    let page = MmapOptions::new()
        .len(4)
        .map_raw_read_only(&page)
        .expect("a mapping");
    let mut guarded = Guarded::new(
        Probe::open_at(folder.path()).expect("a probe"),
        Ok::<_, std::io::Error>,
    );

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("read the generation");
    group.bench_function("bare volatile load", |bencher| {
        bencher.iter(|| bare_load(&page))
    });
    group.bench_function("Probe::generation", |bencher| {
        bencher.iter(|| probe.generation())
    });
    group.bench_function("Guarded::get", |bencher| {
        bencher.iter(|| guarded.get().map(|value| *value).ok());
    });
    group.finish();
    criterion.final_summary();

    let mut bounds = Bounds::new();
    bounds.ratio(
        "probe to bare volatile load",
        BOUND,
        || {},
        || repeat(|| probe.generation().get()),
        || repeat(|| bare_load(&page)),
    );
    bounds.verdict()
}

/// Many loads in a row, so that the loop around them, and where the compiler happened to put it,
/// does not count. Each has a use of its own, or the compiler would fold those it may into other
/// instructions: a volatile load may not be.
fn repeat<T>(load: impl Fn() -> T) {
    for _ in 0..20_000 {
        for _ in 0..32 {
            black_box(load());
        }
    }
}

/// What a client without the SDK would do.
#[inline]
fn bare_load(page: &MmapRaw) -> u32 {
    // SAFETY: The mapping is alive, page-aligned and holds at least four bytes; it is the
    // broker's page, which is never made shorter. Being volatile, the load is done although other
    // processes write there, and this is the comparison that the bench is for.
    unsafe { page.as_ptr().cast::<u32>().read_volatile() }
}
