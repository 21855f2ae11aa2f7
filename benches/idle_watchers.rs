// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What 1,000 async watchers cost that nothing happens to: each awaits a change in a task of its
//! own.
//!
//! This process has the runtime and the watchers, and the broker is another.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::Orchestrator;
use sysgenid_benches::process::{self, Process};
use sysgenid_benches::{Bound, Bounds};
use sysgenid_tokio::Watcher;
use tokio::runtime::{Builder, Runtime};

const WATCHERS: u32 = 1_000;
const IDLE: Duration = Duration::from_secs(3);
const NOTHING: Bound = Bound::AtMost(0.0);
/// Less than a KiB.
const HEAP: Bound = Bound::AtMost(1023.0);
/// In the broker, each has a connection. Its slot is mapped, and has no descriptor.
const BROKER_DESCRIPTORS: Bound = Bound::AtMost(1.0);
/// Without shared memory, which is the page of the slot.
const BROKER_RESIDENT: Bound = Bound::AtMost(2048.0);
const ANY: Bound = Bound::Unbounded;

fn main() -> ExitCode {
    if let Some((_, folder)) = process::role() {
        return process::serve(&folder);
    }
    process::raise_descriptor_limit();
    let mut bounds = Bounds::new();
    let count = if bounds.measured() { WATCHERS } else { 10 };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (broker, _) = Process::broker(folder.path());
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_io().build();
    let runtime = runtime.expect("a runtime");

    // What only the first one needs.
    let scene = Scene::new(folder.path(), &runtime);
    scene.add(1);
    let (here, there) = (Holds::here(), Holds::of(&broker));
    scene.add(count);
    let (here, there) = (Holds::here() - here, Holds::of(&broker) - there);

    if bounds.measured() {
        let before = Spent::now();
        thread::sleep(IDLE);
        let after = Spent::now();
        bounds.report(
            "context switches of a runtime with 1,000 idle async watchers, in 3 s",
            after.switches - before.switches,
            NOTHING,
            "times",
        );
        bounds.report(
            "its processor time",
            after.ticks - before.ticks,
            NOTHING,
            "ticks",
        );
        let each = 1.0 / f64::from(WATCHERS);
        let heap = "heap of an idle async watcher, with its task";
        bounds.report(heap, here.heap * each, HEAP, "bytes");
        let of_broker = |what| format!("{what} for it in the broker");
        for (name, total, bound, unit) in [
            ("resident memory of it".into(), here.resident, ANY, "bytes"),
            (
                "file descriptors of it".into(),
                here.descriptors,
                ANY,
                "descriptors",
            ),
            ("mappings of it".into(), here.mappings, ANY, "mappings"),
            (
                of_broker("resident memory"),
                there.private,
                BROKER_RESIDENT,
                "bytes",
            ),
            (of_broker("shared memory"), there.shared, ANY, "bytes"),
            (
                of_broker("file descriptors"),
                there.descriptors,
                BROKER_DESCRIPTORS,
                "descriptors",
            ),
            (of_broker("mappings"), there.mappings, ANY, "mappings"),
        ] {
            bounds.report(&name, total * each, bound, unit);
        }
    }
    scene.end(folder.path());
    bounds.verdict()
}

/// The watchers in their runtime.
struct Scene<'a> {
    folder: &'a Path,
    runtime: &'a Runtime,
    waiting: Arc<AtomicU32>,
    resumed: Arc<AtomicU32>,
}

impl<'a> Scene<'a> {
    fn new(folder: &'a Path, runtime: &'a Runtime) -> Self {
        Self {
            folder,
            runtime,
            waiting: Arc::default(),
            resumed: Arc::default(),
        }
    }

    fn add(&self, count: u32) {
        let wanted = self.waiting.load(Ordering::Relaxed) + count;
        for _ in 0..count {
            let watcher = sysgenid::Watcher::open_at(self.folder);
            let _context = self.runtime.enter();
            let watcher = Watcher::new(watcher.expect("a watcher, within `ulimit -n`"));
            let watcher = watcher.expect("a place in the runtime");
            let (waiting, resumed) = (Arc::clone(&self.waiting), Arc::clone(&self.resumed));
            self.runtime.spawn(async move {
                waiting.fetch_add(1, Ordering::Relaxed);
                watcher.changed().await.expect("a change");
                resumed.fetch_add(1, Ordering::Relaxed);
            });
        }
        reach(&self.waiting, wanted);
        // From that count to the sleep is a moment.
        thread::sleep(Duration::from_millis(100));
    }

    /// They were idle, and not dead.
    fn end(&self, folder: &Path) {
        assert_eq!(
            self.resumed.load(Ordering::Relaxed),
            0,
            "nothing has changed"
        );
        let orchestrator = Orchestrator::open_at(folder).expect("an orchestrator");
        orchestrator.trigger().expect("a change");
        reach(&self.resumed, self.waiting.load(Ordering::Relaxed));
    }
}

fn reach(count: &AtomicU32, wanted: u32) {
    let start = Instant::now();
    while count.load(Ordering::Relaxed) < wanted {
        assert!(start.elapsed() < Duration::from_secs(60), "tasks that run");
        thread::sleep(Duration::from_millis(1));
    }
}

/// What a process holds.
#[derive(Clone, Copy)]
struct Holds {
    /// Known of this process only.
    heap: f64,
    resident: f64,
    /// The part of that which is anonymous: stacks and the heap.
    private: f64,
    /// The part that is shared memory: the slots.
    shared: f64,
    descriptors: f64,
    mappings: f64,
}

impl Holds {
    fn here() -> Self {
        let mut holds = Self::at("/proc/self".as_ref());
        #[expect(clippy::cast_precision_loss, reason = "bytes of a heap fit")]
        {
            holds.heap = HELD.load(Ordering::Relaxed) as f64;
        }
        holds
    }

    fn of(process: &Process) -> Self {
        Self::at(&process.proc())
    }

    fn at(proc: &Path) -> Self {
        let read = |file| fs::read_to_string(proc.join(file)).expect("a file of /proc");
        let descriptors = fs::read_dir(proc.join("fd")).expect("its descriptors");
        let status = read("status");
        let bytes = |name| process::status_number(&status, name) * 1024.0;
        Self {
            heap: f64::NAN,
            resident: bytes("VmRSS"),
            private: bytes("RssAnon"),
            shared: bytes("RssShmem"),
            descriptors: count(descriptors),
            mappings: count(read("maps").lines()),
        }
    }
}

impl std::ops::Sub for Holds {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            heap: self.heap - before.heap,
            resident: self.resident - before.resident,
            private: self.private - before.private,
            shared: self.shared - before.shared,
            descriptors: self.descriptors - before.descriptors,
            mappings: self.mappings - before.mappings,
        }
    }
}

/// What this process has used of the processors: in the threads of the runtime, which are all but
/// the one that asks.
struct Spent {
    switches: f64,
    ticks: f64,
}

impl Spent {
    fn now() -> Self {
        let main = std::process::id().to_string();
        let threads = fs::read_dir("/proc/self/task").expect("the threads");
        let mut switches = 0.0;
        for thread in threads.map_while(Result::ok) {
            if thread.file_name().to_str() == Some(main.as_str()) {
                continue;
            }
            let status = fs::read_to_string(thread.path().join("status")).expect("its status");
            switches += process::status_number(&status, "voluntary_ctxt_switches")
                + process::status_number(&status, "nonvoluntary_ctxt_switches");
        }
        let ticks = process::processor_ticks("/proc/self".as_ref());
        Self { switches, ticks }
    }
}

fn count<T>(things: impl Iterator<Item = T>) -> f64 {
    things.map(|_| 1.0).sum()
}

/// The system's allocator, which counts the bytes that are asked for and not given back.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn add(layout: Layout) {
    HELD.fetch_add(layout.size() as i64, Ordering::Relaxed);
}

// SAFETY: Each call is passed on to the system's allocator as it is, and so is what it returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout);
        // SAFETY: The caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as i64, Ordering::Relaxed);
        // SAFETY: As above; what was allocated here was allocated there.
        unsafe { System.dealloc(pointer, layout) }
    }
}
