// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processes of a case that do nothing wrong: the broker, and an honest program. What the
//! others do is in [`attack`](super::attack).

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;
use std::{mem, thread};

use clap::ValueEnum;
use rustix::fs::Mode;
use rustix::process::umask;
use sysgenid::Watcher;

use super::client;
use super::helper::Lines;
use super::scene::ANSWER;
use super::widened;

/// The name of an honest program.
pub(super) const HONEST: &std::ffi::CStr = c"honest-service";

/// How long an honest program waits for a change.
static TOLD: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(10)));

/// How long it tries to connect again.
const BACK: Duration = Duration::from_secs(30);

pub(super) type Done = Result<(), Box<dyn Error>>;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    Serve,
    Honest,
    Trigger,
    Return,
    Splice,
    Send,
    Silent,
    Quadratic,
    Unread,
    Packets,
    Storm,
    ForkedAcknowledgement,
    HostileName,
    LeaveToChild,
}

/// A descriptor whose release is slow or blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum What {
    /// The writing end of a pipe whose mutex is held.
    Pipe,
    /// A TCP socket that lingers over what it has not sent.
    Socket,
    /// A file of 256 MiB that exists in memory only.
    File,
}

/// How a descriptor comes to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum How {
    /// With a request.
    Valid,
    /// With a packet that closes the connection.
    Invalid,
    /// Behind a packet that closes the connection.
    Unread,
    /// In a connection that the broker has not accepted yet.
    Unaccepted,
    /// The same, in more connections than the broker may have file descriptors.
    Queued,
    /// With a request, and then come many connections with nothing.
    Followed,
}

/// Serves until `SIGTERM`, as `sysgenid serve`.
pub(super) fn serve(directory: &Path, lines: &Lines) -> Done {
    umask(Mode::empty());
    let server = sysgenid_broker::Server::bind(directory)?;
    let stopper = server.stopper();
    // SAFETY: All zeros is a signal set, which is made empty before a signal is added.
    let terminated = unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        set
    };
    thread::spawn(move || {
        let mut signal = 0;
        // SAFETY: Both are places of this thread's own. The signal is blocked in every thread.
        unsafe { libc::sigwait(&raw const terminated, &raw mut signal) };
        stopper.stop();
    });
    lines.say("on");
    Ok(server.run()?)
}

/// Opens a watcher with the SDK, reports a change, and acknowledges it in the next step.
pub(super) fn honest(directory: &Path, lines: &Lines) -> Done {
    rustix::thread::set_name(HONEST)?;
    let watcher = Watcher::open_at(directory)?;
    lines.say("on");
    let generation = watcher.wait(*TOLD)?;
    lines.say(format_args!("told {generation}"));
    if lines.wait().is_some() {
        watcher.acknowledge(generation)?;
        lines.say("acknowledged");
    }
    lines.hold();
    Ok(())
}

/// Opens watchers, as many as it is told, and says so. In each further step the broker is lost: each
/// watcher is connected again and acknowledges a change. As many threads as it is told do so at once.
pub(super) fn return_with_watchers(directory: &Path, lines: &Lines) -> Done {
    lines.say("on");
    let word = lines.wait().unwrap_or_default();
    let (watchers, threads) = word.split_once(' ').ok_or("two numbers are missing")?;
    let (watchers, threads): (usize, usize) = (watchers.parse()?, threads.parse()?);
    let open = |_| Watcher::open_at(directory);
    let mut watchers = (0..watchers).map(open).collect::<Result<Vec<_>, _>>()?;
    lines.say(watchers.len());
    let share = watchers.len().div_ceil(threads).max(1);
    while lines.wait().is_some() {
        let told: Result<Vec<_>, _> = thread::scope(|scope| {
            let threads: Vec<_> = watchers
                .chunks_mut(share)
                .map(|watchers| scope.spawn(|| watchers.iter_mut().map(come_back).collect()))
                .collect();
            let joined = threads.into_iter().map(|thread| match thread.join() {
                Ok(told) => told,
                Err(_) => Err("a thread panicked".to_owned()),
            });
            joined.collect::<Result<Vec<Vec<_>>, _>>()
        });
        let told = told?.concat();
        lines.say(format_args!(
            "{} acknowledged {:?}",
            told.len(),
            told.iter().collect::<BTreeSet<_>>()
        ));
    }
    Ok(())
}

/// Connects again when the broker is lost, and acknowledges the change that came meanwhile. The page is
/// the same, so the change may be seen before the connection is looked at.
fn come_back(watcher: &mut Watcher) -> Result<u64, String> {
    let (mut is_back, mut acknowledged) = (false, None);
    loop {
        let told = watcher.wait(*TOLD);
        let done = told.and_then(|generation| {
            watcher.acknowledge(generation)?;
            acknowledged = Some(generation);
            Ok(())
        });
        match done {
            Ok(()) => {}
            Err(error) if error.is_lost() && !is_back => {
                let back = watcher.reconnect(BACK);
                back.map_err(|error| format!("reconnecting: {error}"))?;
                is_back = true;
            }
            Err(error) => return Err(format!("back: {is_back}, {acknowledged:?}: {error}")),
        }
        if let (true, Some(generation)) = (is_back, acknowledged) {
            return Ok(generation.get());
        }
    }
}

/// Changes the generation, and says which one it is now.
pub(super) fn trigger(directory: &Path, lines: &Lines) -> Done {
    lines.say(client::trigger(directory, *ANSWER)?);
    lines.hold();
    Ok(())
}
