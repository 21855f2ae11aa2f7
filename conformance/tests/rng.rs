// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Generators in forked children and in signal handlers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failed expectation is a failed test"
)]

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use chacha20::ChaCha12Rng;
use rustix::process::{Pid, WaitOptions, waitpid};
use sysgenid::rand_core::{Infallible, Rng, SeedableRng, TryRng, UnwrapErr};
use sysgenid::{PageFile, ProcessWide, SnapshotSafeRng};

/// Has this process stand on a page file: without a source there is no generator in its memory. Every
/// test begins with it.
fn with_a_source() {
    static SET_UP: Once = Once::new();
    SET_UP.call_once(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page");
        PageFile::open(&path).unwrap();
        // SAFETY: The tests of this program wait here, and the standard library locks what it reads of
        // the environment.
        unsafe { std::env::set_var(sysgenid::SOURCE_VARIABLE, &path) };
        // It is mapped now, so the file may go.
        assert_eq!(sysgenid::protection().sources().count(), 1);
    });
}

/// Runs `draw` in a forked child and in this process: both go on from the same memory. Returns what
/// the child drew, and what this process did.
fn in_both<const N: usize>(mut draw: impl FnMut() -> [u64; N]) -> ([u64; N], [u64; N]) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    // SAFETY: The child allocates nothing and takes no lock that another thread may hold: it draws,
    // writes to a pipe and leaves.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    let mut bytes = [[0; 8]; N];
    for (bytes, number) in bytes.iter_mut().zip(draw()) {
        *bytes = number.to_ne_bytes();
    }
    if child == 0 {
        let _ = rustix::io::write(&writer, bytes.as_flattened());
        // SAFETY: It ends the process; nothing of the test harness may run in the child.
        unsafe { libc::_exit(0) };
    }
    drop(writer);
    let mut theirs = Vec::new();
    File::from(reader).read_to_end(&mut theirs).unwrap();
    waitpid(Pid::from_raw(child), WaitOptions::empty()).unwrap();
    assert_eq!(theirs.len(), 8 * N, "the child has drawn");
    let number = |bytes: &[u8]| u64::from_ne_bytes(bytes.try_into().unwrap());
    let theirs = std::array::from_fn(|index| number(&theirs[8 * index..8 * index + 8]));
    (theirs, bytes.map(u64::from_ne_bytes))
}

#[test]
fn a_forked_child_draws_other_numbers() {
    with_a_source();
    let mut guarded = UnwrapErr(SnapshotSafeRng::<ChaCha12Rng>::new(ProcessWide).unwrap());
    let mut unguarded = ChaCha12Rng::from_seed([7; 32]);
    let mut draw = || {
        [
            sysgenid::rng().next_u64(),
            guarded.next_u64(),
            unguarded.next_u64(),
        ]
    };
    draw();
    // A child of each state: of the first, and of one that has seen forks before.
    for _ in 0..3 {
        let (child, parent) = in_both(&mut draw);
        assert_ne!(child[0], parent[0], "sysgenid::rng()");
        assert_ne!(child[1], parent[1], "guarded");
        assert_eq!(child[2], parent[2], "the control");
    }
}

#[test]
fn a_child_of_a_child_draws_other_numbers() {
    with_a_source();
    sysgenid::rng().next_u64();
    let (child, parent) = in_both(|| {
        let (grandchild, this) = in_both(|| [sysgenid::rng().next_u64()]);
        [grandchild[0], this[0]]
    });
    let drawn: HashSet<_> = child.into_iter().chain(parent).collect();
    assert_eq!(drawn.len(), 4, "{child:x?} {parent:x?}");
}

thread_local! {
    /// Whether the next draw from a [`Forking`] forks, and what `fork` returned then.
    static FORKS: Cell<bool> = const { Cell::new(false) };
    static CHILD: Cell<libc::pid_t> = const { Cell::new(-1) };
}

/// A generator in the middle of whose draw the process forks.
struct Forking(ChaCha12Rng);

impl SeedableRng for Forking {
    type Seed = [u8; 32];

    fn from_seed(seed: Self::Seed) -> Self {
        Self(ChaCha12Rng::from_seed(seed))
    }
}

impl TryRng for Forking {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let high = self.0.next_u32();
        if FORKS.take() {
            // SAFETY: As in `in_both`.
            CHILD.set(unsafe { libc::fork() });
        }
        Ok(u64::from(high) << 32 | u64::from(self.0.next_u32()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(bytes)
    }
}

#[test]
fn a_fork_in_the_middle_of_a_draw_is_noticed() {
    with_a_source();
    let mut guarded = UnwrapErr(SnapshotSafeRng::<Forking>::new(ProcessWide).unwrap());
    let mut unguarded = Forking::from_seed([7; 32]);
    for (name, differ, rng) in [
        ("guarded", true, &mut guarded as &mut dyn Rng),
        ("the control", false, &mut unguarded),
    ] {
        rng.next_u64();
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        FORKS.set(true);
        let ours = rng.next_u64();
        if CHILD.get() == 0 {
            let _ = rustix::io::write(&writer, &ours.to_ne_bytes());
            // SAFETY: As in `in_both`.
            unsafe { libc::_exit(0) };
        }
        drop(writer);
        let mut theirs = [0; 8];
        File::from(reader).read_exact(&mut theirs).unwrap();
        waitpid(Pid::from_raw(CHILD.get()), WaitOptions::empty()).unwrap();
        assert_eq!(u64::from_ne_bytes(theirs) != ours, differ, "{name}");
    }
}

/// What the signal handler drew.
static DRAWN: [AtomicU64; 20_000] = [const { AtomicU64::new(0) }; 20_000];
static COUNT: AtomicUsize = AtomicUsize::new(0);

extern "C" fn draw_in_handler(_signal: libc::c_int) {
    // Relaxed: only this thread's own draws come before and after.
    if let Some(drawn) = DRAWN.get(COUNT.load(Ordering::Relaxed)) {
        drawn.store(sysgenid::rng().next_u64(), Ordering::Relaxed);
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_signal_handler_may_draw_in_the_middle_of_a_draw() {
    static DONE: AtomicBool = AtomicBool::new(false);
    with_a_source();
    // SAFETY: The handler draws and stores to atomics: it allocates nothing, once a thread has drawn,
    // and takes no lock that the interrupted thread holds.
    unsafe {
        libc::signal(
            libc::SIGUSR1,
            draw_in_handler as *const () as libc::sighandler_t,
        )
    };
    sysgenid::rng().next_u64();
    // SAFETY: It asks for the caller's own id.
    let target = unsafe { libc::pthread_self() };
    let sender = thread::spawn(move || {
        while !DONE.load(Ordering::Relaxed) {
            // SAFETY: The target waits for this thread, so it is alive.
            unsafe { libc::pthread_kill(target, libc::SIGUSR1) };
            thread::yield_now();
        }
    });
    // Relaxed: what the handler did on this thread, this thread sees.
    let count = || COUNT.load(Ordering::Relaxed).min(DRAWN.len());
    let end = Instant::now() + Duration::from_secs(20);
    let mut draws = 0;
    while count() < 2000 && Instant::now() < end {
        // A number that both got they would have got in the same round.
        let first = count();
        let mut drawn: Vec<_> = (0..50_000).map(|_| sysgenid::rng().next_u64()).collect();
        draws += drawn.len();
        let handled = &DRAWN[first..count()];
        drawn.extend(handled.iter().map(|drawn| drawn.load(Ordering::Relaxed)));
        assert!(!drawn.contains(&0), "erased words are not handed out");
        // Two of so many are equal by chance once in billions of rounds.
        let distinct = drawn.iter().collect::<HashSet<_>>().len();
        assert_eq!(distinct, drawn.len(), "no number twice");
    }
    DONE.store(true, Ordering::Relaxed);
    sender.join().unwrap();
    println!("{draws} draws, interrupted by {}", count());
    assert!(count() > 20, "{} signals", count());
}
