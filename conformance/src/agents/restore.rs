// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent in the machine that `cargo xtask vm restore` snapshots, clones and restores.
//!
//! It does what a service does: a watcher sleeps until the generation changes, rebuilds a guarded
//! secret and acknowledges; an orchestrator notices as well and waits for it. What happens is said
//! in lines of a word and its `key=value` pairs, which xtask's `restore.rs` describes.
//!
//! On a machine without a source the agent has generators of random numbers and nothing else; the
//! kernel's log tells it that the kernel has been reseeded. See xtask's `sourceless.rs`.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use chacha20::ChaCha12Rng;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::OFlags;
use sysgenid::rand_core::{Rng, SeedableRng, TryRng};
use sysgenid::{
    Deadline, Guarded, Orchestrator, Probe, ProcessWide, SnapshotSafeRng, Watcher, Witness, entropy,
};

use super::{Result, spawn};

type Secret = [u8; 16];

/// How long the watcher takes to handle a change, so that there is something to wait for.
const WORK: Duration = Duration::from_millis(300);

/// How long the orchestrator waits. The guest's CPU is emulated.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the kernel writes to its log once a restore has reseeded it.
const RESEEDED: &[u8] = b"crng reseeded due to virtual machine fork";

/// What the threads share.
struct Shared {
    secret: Mutex<Guarded<Secret, Probe>>,
    /// Changes that the watcher has noticed, and those it has handled.
    wakes: AtomicU32,
    handled: AtomicU32,
}

/// Runs the agent on the device until the host says that it may end.
pub fn run(device: &Path) -> Result<()> {
    let watcher = Arc::new(Watcher::open_at(device)?);
    let secret = Guarded::with_witness(
        watcher.probe()?,
        (|_generation| Ok(random()?)) as fn(_) -> _,
    );
    let shared = Arc::new(Shared {
        secret: Mutex::new(secret),
        wakes: AtomicU32::new(0),
        handled: AtomicU32::new(0),
    });
    let mut generators = Generators::new(watcher.probe()?)?;
    let orchestrator = Orchestrator::open_at(device)?;
    let first = hex(&shared.secret()?);

    let (acknowledged, acknowledgements) = channel();
    let worker = (Arc::clone(&shared), Arc::clone(&watcher));
    spawn(move || work(&worker.0, &worker.1, &acknowledged));
    let overseer = Arc::clone(&shared);
    spawn(move || oversee(&overseer, orchestrator, &acknowledgements));
    // Until both sleep. Were they slower, they would still notice: the wait is no edge.
    thread::sleep(WORK);

    println!(
        "ready generation={} secret={first} {}",
        watcher.generation(),
        generators.draw()?
    );
    report(|| {
        let generation = watcher.generation();
        let outdated = if watcher.try_changed()?.is_some() {
            "yes"
        } else {
            "no"
        };
        Ok(format!(
            "generation={generation} outdated={outdated} wakes={} secret={} {}",
            shared.wakes.load(Ordering::Acquire),
            hex(&shared.secret()?),
            generators.draw()?,
        ))
    })
}

/// Runs the agent on a machine that has no source.
pub fn run_without_source() -> Result<()> {
    if ProcessWide.shows_restores() {
        return Err("there is a source".into());
    }
    let mut generators = Generators::new(ProcessWide)?;
    let mut log = File::options()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open("/dev/kmsg")?;
    log.seek(SeekFrom::End(0))?;
    spawn(move || announce_reseeding(log));
    thread::sleep(WORK);

    println!("ready {}", generators.draw()?);
    report(|| generators.draw())
}

/// Answers each `report` of the host, until it says `finish`.
fn report(mut say: impl FnMut() -> Result<String>) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "report" => println!("report {}", say()?),
            "finish" => return Ok(()),
            other => return Err(format!("the host says {other:?}").into()),
        }
    }
    Err("the host has gone".into())
}

fn announce_reseeding(mut log: File) -> Result<()> {
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let record = &record[..length];
                if record.windows(RESEEDED.len()).any(|text| text == RESEEDED) {
                    println!("reseeded");
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&log, PollFlags::IN)], None)?;
            }
            // Records were overwritten before they were read: the next read continues after them.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Shared {
    /// The secret, through its guard: rebuilt if this is another generation than its own.
    fn secret(&self) -> Result<Secret> {
        let mut secret = self
            .secret
            .lock()
            .map_err(|_| "a thread panicked with the secret")?;
        Ok(secret.with(|secret| *secret)?)
    }
}

/// Handles every change, as a service does.
fn work(shared: &Shared, watcher: &Watcher, acknowledged: &Sender<()>) -> Result<()> {
    loop {
        let generation = watcher.handle(Deadline::NEVER, |generation| -> Result<()> {
            // The partners of all these are the loads in the threads that report and oversee.
            shared.wakes.fetch_add(1, Ordering::Release);
            println!("woke generation={generation}");
            println!("rebuilt secret={}", hex(&shared.secret()?));
            thread::sleep(WORK);
            shared.handled.fetch_add(1, Ordering::Release);
            Ok(())
        })?;
        println!("acknowledged generation={generation}");
        acknowledged.send(())?;
    }
}

/// Notices every change, and waits until the service has handled it.
fn oversee(
    shared: &Shared,
    orchestrator: Orchestrator,
    acknowledgements: &Receiver<()>,
) -> Result<()> {
    loop {
        let handled = shared.handled.load(Ordering::Acquire);
        orchestrator.watcher().wait(Deadline::NEVER)?;
        let settled = orchestrator.settle(PATIENCE, |_generation| Ok::<_, std::io::Error>(()))?;
        if shared.handled.load(Ordering::Acquire) == handled {
            return Err("the wait returned before the watcher had handled the change".into());
        }
        // So that the two lines come in one order.
        acknowledgements.recv_timeout(PATIENCE)?;
        println!("settled generation={}", settled.generation);
    }
}

/// Three generators that are warm when the snapshot is taken.
struct Generators<W> {
    guarded: SnapshotSafeRng<ChaCha12Rng, W>,
    /// What a program has that does not guard its state.
    unguarded: ChaCha12Rng,
}

impl<W: Witness> Generators<W> {
    fn new(witness: W) -> Result<Self> {
        Ok(Self {
            guarded: SnapshotSafeRng::new(witness)?,
            unguarded: ChaCha12Rng::from_seed(random()?),
        })
    }

    /// The next number of each.
    fn draw(&mut self) -> Result<String> {
        Ok(format!(
            "rng={:016x} guarded={:016x} unguarded={:016x}",
            sysgenid::rng().next_u64(),
            self.guarded.try_next_u64()?,
            self.unguarded.next_u64()
        ))
    }
}

/// From the kernel, which reseeds itself on a restore before it notifies a driver.
fn random<const N: usize>() -> sysgenid::Result<[u8; N]> {
    let mut bytes = [0; N];
    entropy::fill(&mut bytes)?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
