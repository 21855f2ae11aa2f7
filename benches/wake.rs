// SPDX-License-Identifier: Apache-2.0 OR MIT
//! From a change of the generation to the task that awaits it, beside an eventfd that a task of the
//! same runtime awaits, and beside a bare packet.
//!
//! An eventfd is written by whoever has something to tell, and a change is asked of a broker. So
//! the eventfd gets a server as well, of the same shape: a thread that takes the same request from
//! a socket of the same kind, stores a counter in a mapped page, writes the eventfd and answers. The
//! packet's server sends a packet in its place.
//! Who asks looks at that page without a pause, and the time begins when the counter has changed
//! there. It ends in the task: with the generation, or with what was read from the eventfd.
//!
//! Who looks has a processor to itself. The servers and the runtimes share another, so that it does
//! not depend on the scheduler's choice which of them must be woken from its sleep.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::any::Any;
use std::fs::File;
use std::future::Future;
use std::hint::spin_loop;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{ioctl_fionbio, read};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with, socketpair,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use sysgenid::{Deadline, Source};
use sysgenid_benches::{Bound, Bounds, send_notice, stand_in, write_eventfd};
use sysgenid_sys::page::{CounterPage, CounterPageMut};
use sysgenid_sys::wire::{CONTROL_SOCKET, Notice, Op, PAGE_FILE, Reply, Request};
use sysgenid_tokio::{Changes, Watcher};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle};

/// To send a packet takes about three times as long as to write an eventfd, and to receive one as to read
/// it. Nothing cheaper is known that a client cannot block the broker with.
const TO_EVENTFD: Bound = Bound::AtMost(1.4);
/// What we add to that.
const TO_PACKET: Bound = Bound::AtMost(1.2);
/// What it costs that the source may be any, and may be lost and replaced. To an eventfd it is a packet
/// that counts, as for a watcher.
const TO_WATCHER: Bound = Bound::AtMost(1.15);

/// Changes that one side takes in its turn. Their median counts.
const CHANGES: usize = 51;
/// Before each, so that the server and the runtime have nothing to do and sleep.
const PAUSE: Duration = Duration::from_micros(50);

fn main() -> ExitCode {
    let mut bounds = Bounds::new();
    let Some([ours, theirs]) = processors() else {
        bounds.fact("waking a task", "not measured: it takes two processors");
        return bounds.verdict();
    };
    stay_on(theirs);
    let runtimes = [
        ("current-thread", current_thread()),
        ("multi-thread", multi_thread()),
    ];
    let mut scenes = runtimes.map(|(name, runtime)| Scene {
        runtime: name,
        broker: Subject::broker(&runtime, watch),
        changes: Subject::broker(&runtime, take_changes),
        eventfd: Subject::eventfd(&runtime),
        packet: Subject::packet(&runtime),
    });
    stay_on(ours);

    for scene in &mut scenes {
        bounds.ratio_of(
            &format!(
                "change to task resumed, to eventfd to task resumed, {} runtime",
                scene.runtime
            ),
            TO_EVENTFD,
            || scene.broker.median(Since::Change),
            || scene.eventfd.median(Since::Change),
        );
        bounds.ratio_of(
            &format!(
                "the same to packet to task resumed, {} runtime",
                scene.runtime
            ),
            TO_PACKET,
            || scene.broker.median(Since::Change),
            || scene.packet.median(Since::Change),
        );
    }
    for scene in &mut scenes {
        bounds.ratio_of(
            &format!(
                "changes(): change to task resumed, to eventfd to task resumed, {} runtime",
                scene.runtime
            ),
            TO_EVENTFD,
            || scene.changes.median(Since::Change),
            || scene.eventfd.median(Since::Change),
        );
        bounds.ratio_of(
            &format!("the same to a watcher's, {} runtime", scene.runtime),
            TO_WATCHER,
            || scene.changes.median(Since::Change),
            || scene.broker.median(Since::Change),
        );
    }
    for scene in &mut scenes {
        bounds.ratio_of(
            &format!("to eventfd, from the request on, {} runtime", scene.runtime),
            Bound::Unbounded,
            || scene.broker.median(Since::Request),
            || scene.eventfd.median(Since::Request),
        );
    }

    // Of the time that it takes, most is not measured.
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(10))
        .measurement_time(Duration::from_millis(100))
        .configure_from_args();
    for (group, since) in [
        ("wake a task", Since::Change),
        ("ask for a change and wake a task", Since::Request),
    ] {
        let mut group = criterion.benchmark_group(group);
        group.sampling_mode(SamplingMode::Flat);
        for scene in &mut scenes {
            let name = scene.runtime;
            for (what, subject) in [
                ("eventfd", &mut scene.eventfd),
                ("packet", &mut scene.packet),
                ("sysgenid_tokio::Watcher", &mut scene.broker),
                ("sysgenid_tokio::changes()", &mut scene.changes),
            ] {
                group.bench_function(format!("{what}, {name}"), |bencher| {
                    bencher.iter_custom(|changes| (0..changes).map(|_| subject.take(since)).sum());
                });
            }
        }
        group.finish();
    }
    criterion.final_summary();
    bounds.verdict()
}

/// Two of the processors that this process may use, if it may use two.
fn processors() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).expect("the processors of this thread");
    let mut allowed = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    Some([allowed.next()?, allowed.next()?])
}

/// Has this thread, and those that it starts, run there.
fn stay_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).expect("a processor that was allowed");
}

fn current_thread() -> Handle {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let handle = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    handle
}

fn multi_thread() -> Handle {
    let mut builder = Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let handle = runtime.handle().clone();
    // It lives as long as the bench.
    std::mem::forget(runtime);
    handle
}

/// When the time begins.
#[derive(Clone, Copy)]
enum Since {
    Change,
    Request,
}

/// The subjects that are compared in one runtime.
struct Scene {
    runtime: &'static str,
    broker: Subject,
    changes: Subject,
    eventfd: Subject,
    packet: Subject,
}

/// A server, and a task that awaits what it tells.
struct Subject {
    socket: OwnedFd,
    page: CounterPage,
    resumed: Arc<Resumed>,
    /// What must stay as long as this does.
    _server: Box<dyn Any>,
}

impl Subject {
    /// The userspace driver, and a task that handles its changes.
    fn broker<T: Future<Output = ()> + Send + 'static>(
        runtime: &Handle,
        handle: impl FnOnce(&Path, Arc<Resumed>) -> T,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let broker = sysgenid_broker::spawn(folder.path()).expect("a broker");
        let resumed = Arc::new(Resumed::new());
        let task = {
            let _context = runtime.enter();
            handle(folder.path(), Arc::clone(&resumed))
        };
        runtime.spawn(task);
        let source = Source::at(folder.path()).expect("a source");
        // The first changes would be seen in the page.
        while source
            .status(Deadline::NEVER)
            .map(|it| it.watchers.map(|it| it.tracked))
            .ok()
            != Some(Some(1))
        {
            thread::sleep(PAUSE);
        }
        let page = File::open(folder.path().join(PAGE_FILE)).expect("the page");
        let socket = packets();
        let address = SocketAddrUnix::new(folder.path().join(CONTROL_SOCKET));
        connect(&socket, &address.expect("a short path")).expect("a broker that listens");
        Self {
            socket,
            page: CounterPage::map(page).expect("a mapping"),
            resumed,
            _server: Box::new((broker, folder)),
        }
    }

    /// The stand-in, and a task that reads its eventfd.
    fn eventfd(runtime: &Handle) -> Self {
        let flags = EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC;
        let event = Arc::new(eventfd(0, flags).expect("an eventfd"));
        let task_event = Arc::clone(&event);
        Self::with_stand_in(runtime, task_event, move || write_eventfd(&event))
    }

    /// The stand-in, and a task that reads its packets.
    fn packet(runtime: &Handle) -> Self {
        let (ours, theirs) = packet_pair();
        ioctl_fionbio(&ours, true).expect("a socket that does not block");
        Self::with_stand_in(runtime, Arc::new(ours), move || send_notice(&theirs))
    }

    fn with_stand_in(
        runtime: &Handle,
        event: Arc<OwnedFd>,
        tell: impl Fn() + Send + 'static,
    ) -> Self {
        let resumed = Arc::new(Resumed::new());
        let task = {
            let _context = runtime.enter();
            #[expect(deprecated, reason = "its successor is unsafe; this owns a descriptor")]
            let event = AsyncFd::with_interest(event, Interest::READABLE);
            let event = event.expect("a place in the runtime");
            let resumed = Arc::clone(&resumed);
            async move {
                let mut value = [0_u8; Notice::LEN];
                let mut take = |event: &Arc<OwnedFd>| Ok(read(event, &mut value)?);
                while event.async_io(Interest::READABLE, &mut take).await.is_ok() {
                    resumed.now();
                }
            }
        };
        runtime.spawn(task);
        let file = tempfile::tempfile().expect("a file");
        file.set_len(4096).expect("room for a page");
        let counter = CounterPageMut::map(&file).expect("a mapping");
        let (socket, their_socket) = packet_pair();
        thread::spawn(move || stand_in(&counter, tell, &their_socket));
        Self {
            socket,
            page: CounterPage::map(&file).expect("a mapping"),
            resumed,
            _server: Box::new(()),
        }
    }

    fn median(&mut self, since: Since) -> Duration {
        let mut times: Vec<_> = (0..CHANGES).map(|_| self.take(since)).collect();
        times.sort_unstable();
        times.get(CHANGES / 2).copied().unwrap_or_default()
    }

    /// Asks for a change, and says how long it took until the task was resumed.
    fn take(&mut self, since: Since) -> Duration {
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            spin_loop();
        }
        let request = Request::new(Op::Trigger, 1);
        let (before, times) = (self.page.load(), self.resumed.times());
        let asked = Instant::now();
        send(&self.socket, &request.encode(), SendFlags::empty()).expect("a server that listens");
        while self.page.load() == before {
            spin_loop();
        }
        let changed = Instant::now();
        while self.resumed.times() == times {
            spin_loop();
        }
        let resumed = self.resumed.at();
        let mut reply = [0; Reply::LEN];
        recv(&self.socket, &mut reply, RecvFlags::empty()).expect("an answer");
        let since = match since {
            Since::Change => changed,
            Since::Request => asked,
        };
        // Not at all, if our processor was taken from us meanwhile: a quotient needs something.
        resumed
            .saturating_duration_since(since)
            .max(Duration::from_nanos(1))
    }
}

/// An async watcher.
fn watch(folder: &Path, resumed: Arc<Resumed>) -> impl Future<Output = ()> + Send + use<> {
    let watcher = sysgenid::Watcher::open_at(folder).expect("a watcher");
    let watcher = Watcher::new(watcher).expect("a place in the runtime");
    async move {
        while let Ok(generation) = watcher.changed().await {
            resumed.now();
            // Stale, if the processor was taken from us meanwhile.
            let _ = watcher.acknowledge(generation);
        }
    }
}

/// The changes of whichever source there is.
fn take_changes(folder: &Path, resumed: Arc<Resumed>) -> impl Future<Output = ()> + Send + use<> {
    let mut changes = Changes::from(sysgenid::Changes::options().at(folder).open());
    async move {
        while let Ok(change) = changes.next_change().await {
            resumed.now();
            let _ = change.acknowledge();
        }
    }
}

fn packet_pair() -> (OwnedFd, OwnedFd) {
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socketpair(kind.0, kind.1, SocketFlags::CLOEXEC, None).expect("a pair of sockets")
}

fn packets() -> OwnedFd {
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET);
    socket_with(kind.0, kind.1, SocketFlags::CLOEXEC, None).expect("a socket")
}

/// When a task was resumed last, and how often it was.
struct Resumed {
    start: Instant,
    nanoseconds: AtomicU64,
    times: AtomicU64,
}

impl Resumed {
    fn new() -> Self {
        Self {
            start: Instant::now(),
            nanoseconds: AtomicU64::new(0),
            times: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let nanoseconds = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.store(nanoseconds, Ordering::Relaxed);
        // Its partner is the load in `times`: who sees the count sees the time.
        self.times.fetch_add(1, Ordering::Release);
    }

    fn times(&self) -> u64 {
        self.times.load(Ordering::Acquire)
    }

    fn at(&self) -> Instant {
        self.start + Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}
