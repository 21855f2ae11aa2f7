// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The fast paths. Each is a function with a name of its own, that does no more than a user's code
//! would have inlined.

use std::hint::black_box;

use memmap2::{MmapOptions, MmapRaw};
use sysgenid::rand_core::Rng;
use sysgenid::{
    BuildError, Generation, Guarded, Probe, RestoreOnly, Result, SOURCE_VARIABLE, SharedGuarded,
    SharedReader, ThreadGuarded, Uniqueness,
};

pub(crate) type Path = (&'static str, Box<dyn FnMut()>);

/// Each path, ready to be taken. They are called by pointers that the compiler knows nothing of, so
/// that it leaves the functions as they are.
pub(crate) fn all() -> Vec<Path> {
    let page = map();
    let load = black_box(bare_load as fn(&_) -> _);
    let probe = probe();
    let probe_generation = black_box(probe_generation as fn(&_) -> _);
    let generation = black_box(generation as fn() -> _);
    let before = sysgenid::uniqueness();
    let is_unique = black_box(is_unique as fn(_) -> _);

    // As guards in a field or a static have it.
    let build: fn(_) -> _ = build;
    let mut guarded = Guarded::new(build);
    let guarded_get = black_box(guarded_get as fn(&mut Guarded<u64>) -> Result<&mut u64>);
    let mut for_restores = Guarded::with_witness(RestoreOnly(self::probe()), build);
    let guarded_get_for_restores = black_box(
        guarded_get_for_restores as fn(&mut Guarded<u64, RestoreOnly<Probe>>) -> Result<&mut u64>,
    );
    let mut guarded_too = Guarded::new(build);
    let guarded_with = black_box(guarded_with as fn(&mut _) -> _);
    let thread_guarded = ThreadGuarded::new(build);
    let thread_guarded_with = black_box(thread_guarded_with as fn(&_) -> _);
    let shared: &_ = Box::leak(Box::new(SharedGuarded::new(build)));
    let shared_with = black_box(shared_with as fn(&_) -> _);
    let mut reader = shared.reader();
    let reader_get =
        black_box(reader_get as for<'a> fn(&'a mut SharedReader<'_, _>) -> Result<&'a u64>);

    let mut bytes = [0_u8; 16];
    let rng_16_bytes = black_box(rng_16_bytes as fn(&mut _));
    let rng_u32 = black_box(rng_u32 as fn() -> _);
    let rng_u64 = black_box(rng_u64 as fn() -> _);

    vec![
        ("bare_load", used(move || load(&page))),
        ("probe_generation", used(move || probe_generation(&probe))),
        ("generation", used(generation)),
        ("is_unique", used(move || is_unique(before))),
        (
            "guarded_get",
            used(move || guarded_get(&mut guarded).map(|value| *value)),
        ),
        (
            "guarded_get_for_restores",
            used(move || guarded_get_for_restores(&mut for_restores).map(|value| *value)),
        ),
        ("guarded_with", used(move || guarded_with(&mut guarded_too))),
        (
            "thread_guarded_with",
            used(move || thread_guarded_with(&thread_guarded)),
        ),
        ("shared_with", used(move || shared_with(shared))),
        ("reader_get", used(move || reader_get(&mut reader).copied())),
        ("rng_16_bytes", used(move || rng_16_bytes(&mut bytes))),
        ("rng_u32", used(rng_u32)),
        ("rng_u64", used(rng_u64)),
    ]
}

fn probe() -> Probe {
    Probe::open().expect("a probe")
}

/// What is guarded: a number, so that its use is one load.
#[expect(clippy::unnecessary_wraps, reason = "as guards take it")]
fn build(_: Generation) -> Result<u64, BuildError> {
    Ok(7)
}

fn used<T>(mut path: impl FnMut() -> T + 'static) -> Box<dyn FnMut()> {
    Box::new(move || {
        black_box(path());
    })
}

/// The page, as a program without the SDK would map it.
fn map() -> MmapRaw {
    let path = std::env::var_os(SOURCE_VARIABLE).expect("the path of a page");
    let file = std::fs::File::open(path).expect("the page");
    let map = MmapOptions::new().len(4).map_raw_read_only(&file);
    map.expect("a mapping")
}

// The names are those of the table in `fastpath/table.txt`; no other function has one of them.

/// What everything is compared with.
#[unsafe(no_mangle)]
#[inline(never)]
fn bare_load(page: &MmapRaw) -> u32 {
    // SAFETY: The mapping is alive, page-aligned and holds at least four bytes, and the file is not
    // made shorter. Being volatile, the load is done although others write there.
    unsafe { page.as_ptr().cast::<u32>().read_volatile() }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn probe_generation(probe: &Probe) -> Generation {
    probe.generation()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn generation() -> Generation {
    sysgenid::generation()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn is_unique(before: Uniqueness) -> bool {
    sysgenid::uniqueness() == before
}

#[unsafe(no_mangle)]
#[inline(never)]
fn guarded_get(guarded: &mut Guarded<u64>) -> Result<&mut u64> {
    guarded.get()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn guarded_get_for_restores(guarded: &mut Guarded<u64, RestoreOnly<Probe>>) -> Result<&mut u64> {
    guarded.get()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn guarded_with(guarded: &mut Guarded<u64>) -> Result<u64> {
    guarded.with(|value| *value)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn thread_guarded_with(guarded: &ThreadGuarded<u64>) -> Result<u64> {
    guarded.with(|value| *value)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn shared_with(guarded: &SharedGuarded<u64>) -> Result<u64> {
    guarded.with(|value| *value)
}

#[unsafe(no_mangle)]
#[inline(never)]
fn reader_get<'a>(reader: &'a mut SharedReader<'_, u64>) -> Result<&'a u64> {
    reader.get()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn rng_16_bytes(bytes: &mut [u8; 16]) {
    sysgenid::rng().fill_bytes(bytes);
}

#[unsafe(no_mangle)]
#[inline(never)]
fn rng_u32() -> u32 {
    sysgenid::rng().next_u32()
}

#[unsafe(no_mangle)]
#[inline(never)]
fn rng_u64() -> u64 {
    sysgenid::rng().next_u64()
}
