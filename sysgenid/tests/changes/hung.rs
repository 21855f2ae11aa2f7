// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A broker that is stopped, in a process of its own.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::scene::{A_MOMENT, PATIENCE, is_quiet, next, options_at};

/// Where the broker serves, in the process that is one.
const BROKER: &str = "SYSGENID_TEST_BROKER";
/// The test that such a process begins with.
const NAME: &str = "hung::a_broker_that_hangs_delays_nothing_and_is_watched_when_it_goes_on";

struct Process(Child);

impl Process {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(BROKER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(said.any(|line| line.unwrap().contains("listening")));
        Self(child)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Returns when it has stopped.
    fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        waitpid(Some(self.pid()), WaitOptions::UNTRACED).unwrap();
    }

    fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(folder: &OsStr) {
    let _broker = sysgenid_broker::spawn(folder).unwrap();
    println!("listening");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_broker_that_hangs_delays_nothing_and_is_watched_when_it_goes_on() {
    if let Some(folder) = env::var_os(BROKER) {
        serve(&folder);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::start(folder.path());
    broker.freeze();
    let mut changes = options_at(folder.path()).open();
    let began = Instant::now();
    assert!(changes.try_next().unwrap().is_none());
    is_quiet(&mut changes);
    // To wait for an answer takes five seconds.
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );

    let triggering = thread::spawn({
        let source = sysgenid::Source::at(folder.path()).unwrap();
        move || source.trigger(PATIENCE).unwrap()
    });
    is_quiet(&mut changes);
    broker.thaw();
    let change = next(&mut changes);
    assert_eq!(change.generation(), triggering.join().unwrap());
    change.acknowledge().unwrap();
    is_quiet(&mut changes);
}

#[test]
fn the_deadline_is_kept_while_a_connected_broker_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let broker = Process::start(folder.path());
    let mut changes = options_at(folder.path()).open();
    is_quiet(&mut changes);
    let source = sysgenid::Source::at(folder.path()).unwrap();
    source.trigger(PATIENCE).unwrap();
    let change = next(&mut changes);
    broker.freeze();
    let began = Instant::now();
    assert!(changes.wait(A_MOMENT).unwrap_err().is_timeout());
    // It is left where the broker finds it.
    change.acknowledge().unwrap();
    assert!(changes.wait(A_MOMENT).unwrap_err().is_timeout());
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    broker.thaw();
    let counts = source.status(PATIENCE).unwrap().watchers.unwrap();
    assert_eq!((counts.tracked, counts.outdated), (1, 0));
}
