// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Brokers on threads and in processes of their own, and runtimes.

use std::env;
use std::future::Future;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use sysgenid::{Generation, Orchestrator};
use sysgenid_broker::Background;
use sysgenid_tokio::{AsyncOrchestrator, Watcher};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Far more than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// More than what should happen at once takes on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(3);

/// A broker in this process, and who changes its generation.
pub(crate) struct Scene {
    pub(crate) overseer: Orchestrator,
    broker: Option<Background>,
    folder: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = sysgenid_broker::spawn(folder.path()).unwrap();
        Self {
            overseer: Orchestrator::open_at(folder.path()).unwrap(),
            broker: Some(broker),
            folder,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn watcher(&self) -> Watcher {
        Watcher::open_at(self.path()).await.unwrap()
    }

    pub(crate) async fn orchestrator(&self) -> AsyncOrchestrator {
        AsyncOrchestrator::open_at(self.path()).await.unwrap()
    }

    pub(crate) fn trigger(&self) -> Generation {
        self.overseer.trigger().unwrap()
    }

    pub(crate) fn end_broker(&mut self) {
        self.broker = None;
    }

    pub(crate) fn start_broker(&mut self) {
        self.broker = Some(sysgenid_broker::spawn(self.folder.path()).unwrap());
        self.overseer = Orchestrator::open_at(self.folder.path()).unwrap();
    }

    /// How many tracked watchers have not acknowledged.
    pub(crate) fn outdated(&self) -> u64 {
        let status = sysgenid::Source::at(self.path()).unwrap().status(PATIENCE);
        status.unwrap().watchers.unwrap().outdated.into()
    }
}

pub(crate) fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn threads() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// Runs the test in a runtime of one thread, and in one of several.
pub(crate) fn in_both<F: Future<Output = ()>>(test: impl Fn() -> F) {
    one_thread().block_on(async { tokio::time::timeout(PATIENCE, test()).await.unwrap() });
    threads().block_on(async { tokio::time::timeout(PATIENCE, test()).await.unwrap() });
}

/// Polls it once, with a waker that wakes nobody.
pub(crate) fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Counts while its runtime can run it.
pub(crate) struct Ticks(Arc<AtomicU64>);

impl Ticks {
    pub(crate) fn start() -> Self {
        let ticks = Arc::new(AtomicU64::new(0));
        let counted = Arc::downgrade(&ticks);
        tokio::spawn(async move {
            while let Some(ticks) = counted.upgrade() {
                ticks.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        Self(ticks)
    }

    pub(crate) fn so_far(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

const ROLE: &str = "SYSGENID_TOKIO_TEST_SERVES";
const READY: &str = "child is ready";

/// Not a test: what a child does.
#[test]
fn child() {
    let Some(folder) = env::var_os(ROLE) else {
        return;
    };
    let _broker = sysgenid_broker::spawn(folder).unwrap();
    println!("\n{READY}");
    // The parent's end is closed when it is done, or dies.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// A broker in a process of its own, which can be stopped.
pub(crate) struct Process {
    child: Child,
    _stdin: ChildStdin,
    folder: TempDir,
}

impl Process {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "scene::child", "--nocapture"])
            .env(ROLE, folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == READY));
        Self {
            child,
            _stdin: stdin,
            folder,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Lets it neither run nor end.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        // The kernel reports it when all threads have stopped.
        let pid = Some(Pid::from_child(&self.child));
        let (_, status) = waitpid(pid, WaitOptions::UNTRACED).unwrap().unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
