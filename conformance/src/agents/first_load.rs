// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The agent in the machines that `cargo xtask vm counter` and `vm vmclock` restore.
//!
//! It shows that a counter which the hypervisor keeps is right from a clone's first instruction on,
//! without measuring time. A thread loads the counter over and over. Before each load it notes the
//! number of its turn in a word that the host can read as well. While the machine stands still, the
//! host reads how far it came; so a change that was made meanwhile must be seen in that turn, or, if
//! that had already loaded, in the next one.
//!
//! The counter is loaded by the SDK's probe, as a program would. With each change it says what it
//! draws from the kernel at that moment.
//!
//! Beside it sleeps whoever is told of a change: a watcher on `/dev/sysgenid`, and with a vmclock a
//! thread in its `poll` and the SDK's observers, one in a runtime and one without. What happens is said in lines of a word and its `key=value` pairs.

use std::io::BufRead;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::thread;
use std::time::Duration;

use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use sysgenid::{Deadline, Observer, Probe, SourceKind, Watcher};
use sysgenid_sys::abi::PAGE_LEN;
use sysgenid_sys::internal::entropy::getrandom;

use super::{Result, spawn};
use crate::raw::mapping::{Mapping, Request};
use crate::raw::vmclock::Clock;

/// How long the sleepers have to fall asleep. Were they slower, they would still notice: the wait
/// is no edge.
const SETTLING: Duration = Duration::from_millis(300);

/// In how many turns the spinner draws random numbers once, as a program does that uses them. Else
/// the kernel's would be so old that it renews them at the first draw in a clone, told or not.
const DRAWS: u64 = 1 << 20;

/// Runs the agent until the host says that it may end.
pub fn run(counter: &Path, sysgenid: &Path, turns: u64) -> Result<()> {
    let probe = Probe::open_at(counter)?;
    let turns = Arc::new(Turns::at(turns)?);
    let watcher = Arc::new(Watcher::open_at(sysgenid)?);

    let sleeper = (Arc::clone(&watcher), Arc::clone(&turns));
    spawn(move || watch(&sleeper.0, &sleeper.1));
    if probe.source().map(sysgenid::Source::kind) == Some(SourceKind::Vmclock) {
        let sleeper = (Clock::open(counter)?, Arc::clone(&turns));
        spawn(move || poll(&sleeper.0, &sleeper.1));
        let observer = Observer::open_at(counter)?;
        spawn(move || observe(observer));
        let clock = counter.to_owned();
        spawn(move || await_changes(&clock));
    }
    let spinner = (Probe::open_at(counter)?, Arc::clone(&turns));
    spawn(move || spin(&spinner.0, &spinner.1));
    thread::sleep(SETTLING);

    let report = |word| {
        println!(
            "{word} counter={} generation={} turns={}",
            probe.generation(),
            watcher.generation(),
            turns.load(),
        );
    };
    report("ready");
    for line in std::io::stdin().lock().lines() {
        match line?.trim() {
            "report" => report("report"),
            "finish" => return Ok(()),
            other => return Err(format!("the host says {other:?}").into()),
        }
    }
    Err("the host has gone".into())
}

/// Takes turns for ever, and says in which it saw a change.
fn spin(probe: &Probe, turns: &Turns) -> Result<()> {
    let mut known = probe.generation();
    let mut turn = 0;
    loop {
        turn += 1;
        turns.store(turn);
        // The note of a turn comes before its load, on this processor: its partner is the host,
        // which looks while no processor runs.
        fence(Ordering::SeqCst);
        if turn % DRAWS == 0 {
            draw()?;
        }
        let counter = probe.generation();
        if counter != known {
            known = counter;
            let drawn = draw()?;
            println!("saw counter={counter} turn={turn} drawn={drawn:016x}");
        }
    }
}

/// Acknowledges every change of `/dev/sysgenid`.
fn watch(watcher: &Watcher, turns: &Turns) -> Result<()> {
    loop {
        watcher.handle(Deadline::NEVER, |generation| {
            let (turn, drawn) = (turns.load(), draw()?);
            println!("woke generation={generation} turn={turn} drawn={drawn:016x}");
            Ok::<_, Errno>(())
        })?;
    }
}

/// What a program would build a new secret of, at this moment.
fn draw() -> rustix::io::Result<u64> {
    let mut bytes = [0; 8];
    let length = getrandom(&mut bytes)?;
    if length != bytes.len() {
        return Err(Errno::IO);
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Sleeps until the clock is notified.
fn poll(clock: &Clock, turns: &Turns) -> Result<()> {
    clock.read()?;
    loop {
        let events = clock.wait();
        if events.contains(PollFlags::HUP) {
            return Err("this clock notifies nobody".into());
        }
        let page = clock.read()?;
        println!(
            "notified counter={} marker={} turn={}",
            page.generation_counter,
            page.disruption_marker,
            turns.load(),
        );
    }
}

/// Is told of each change by the SDK.
fn observe(mut observer: Observer) -> Result<()> {
    loop {
        let counter = observer.wait(Deadline::NEVER)?;
        println!("observed counter={counter}");
    }
}

/// The same, in a runtime.
fn await_changes(clock: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut observer = sysgenid_tokio::Observer::open_at(clock).await?;
        loop {
            let counter = observer.changed().await?;
            println!("awaited counter={counter}");
        }
    })
}

/// The number of the spinner's turn, at a physical address that no kernel uses.
struct Turns(Mapping);

impl Turns {
    fn at(address: u64) -> Result<Self> {
        let memory = open("/dev/mem", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let request = Request {
            length: PAGE_LEN,
            protection: ProtFlags::READ | ProtFlags::WRITE,
            flags: MapFlags::SHARED,
            offset: address,
        };
        Ok(Self(Mapping::new(memory, request)?))
    }

    fn store(&self, turn: u64) {
        self.0.store_u64(0, turn);
    }

    fn load(&self) -> u64 {
        self.0.load_u64(0)
    }
}
