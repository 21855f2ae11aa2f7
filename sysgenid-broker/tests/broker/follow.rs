// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Followers: what announces restores to a broker is played by the files and sockets of
//! `played.rs`. `kmsg.rs` has the tests with the kernel's own log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use sysgenid_broker::follow::{Choice, Follow, Followers};
use sysgenid_broker::{Incident, Server, Stopper};
use sysgenid_sys::wire::Cause;

use crate::child::Process;
use crate::client::{Client, PATIENCE, Watcher};
use crate::played::{Checkpoint, Clock, Log, TEXT, Vmgenid};

/// Longer than the tests run: what waits for so long never acts.
const NEVER: Duration = Duration::from_secs(3600);

/// A broker with followers, on a thread.
pub(crate) struct Broker {
    pub(crate) dir: PathBuf,
    incidents: Receiver<String>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    pub(crate) fn start(dir: &Path, follow: Follow) -> Self {
        let mut server = Server::bind(dir).unwrap();
        let (told, incidents) = channel();
        server.on_incident(move |incident: Incident| {
            let _ = told.send(incident.to_string());
        });
        server.follow(follow).unwrap();
        let (dir, stopper) = (server.dir().to_path_buf(), server.stopper());
        let thread = std::thread::spawn(move || server.run().unwrap());
        Self {
            dir,
            incidents,
            stopper,
            thread: Some(thread),
        }
    }

    /// Waits until the generation is this one, and returns why it changed last.
    pub(crate) fn reaches(&self, generation: u32) -> Cause {
        let mut client = Client::watch(&self.dir);
        loop {
            // Before the question, so that it is woken by what comes after the answer.
            let watcher = Watcher::untracked(&self.dir);
            let status = client.status();
            if status.generation == generation {
                return status.cause;
            }
            assert!(status.generation < generation, "{status:?}");
            watcher.wait_readable();
        }
    }

    /// What happened to it.
    fn told(&self) -> String {
        self.incidents.recv_timeout(PATIENCE).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn follows(followers: Followers) -> Follow {
    Follow::new(Choice::Named(followers)).patience(NEVER)
}

/// A place for what plays devices, and the broker's directory in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("broker");
    (folder, dir)
}

/// The next change is the only one to come: a trigger makes exactly the next number.
fn is_all(broker: &Broker, generation: u32) {
    let next = Client::control(&broker.dir).trigger(0).generation;
    assert_eq!(next, generation + 1, "there were more changes");
}

#[test]
fn a_record_of_the_kernel_is_a_restore_and_wakes_the_watchers() {
    let (_folder, dir) = place();
    let (log, theirs) = Log::new();
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    let mut watcher = Watcher::tracked(&broker.dir);
    let status = Client::watch(&broker.dir).status();
    assert_eq!(status.followers, Followers::KMSG);
    assert_eq!((status.generation, status.cause), (0, Cause::NONE));

    // These come first, and none of them is a change.
    log.write(&format!("13,1,1,-;{TEXT}\n"));
    log.write(&format!("5,2,1,-;x: {TEXT}\n"));
    log.restore(3);
    watcher.wait_readable();
    let notice = watcher.read_notice().unwrap();
    assert_eq!((notice.generation, notice.cause), (1, Cause::RESTORE));
    assert_ne!(notice.time, 0);
    watcher.acknowledge(1).unwrap();

    log.restore(4);
    assert_eq!(broker.reaches(2), Cause::RESTORE);
    is_all(&broker, 2);
}

#[test]
fn one_restore_that_three_followers_see_is_one_change() {
    let (folder, dir) = place();
    let (log, theirs) = Log::new();
    let (clock, counter) = (Clock::new(folder.path()), Vmgenid::new(folder.path()));
    let all = Followers::KMSG
        .with(Followers::VMCLOCK)
        .with(Followers::VMGENID);
    let follow = follows(all)
        .log(theirs)
        .clock(&clock.path)
        .counter(&counter.path);
    let broker = Broker::start(&dir, follow);
    for restore in 1..4 {
        clock.restore(restore.into());
        counter.restore(restore);
        // What precedes the kernel's reseeding changes nothing by itself, however long it takes.
        std::thread::sleep(Duration::from_millis(120));
        assert_eq!(Client::watch(&broker.dir).status().generation, restore - 1);
        log.restore(restore.into());
        assert_eq!(broker.reaches(restore), Cause::RESTORE);
    }
    // Also in the other order.
    log.restore(4);
    assert_eq!(broker.reaches(4), Cause::RESTORE);
    clock.restore(4);
    std::thread::sleep(Duration::from_millis(120));
    is_all(&broker, 4);
}

#[test]
fn a_counter_without_a_record_changes_the_generation_in_time_and_says_what_it_does_not_know() {
    for has_log in [true, false] {
        let (folder, dir) = place();
        let (_log, theirs) = Log::new();
        let clock = Clock::new(folder.path());
        let mut followers = Followers::VMCLOCK;
        if has_log {
            followers = followers.with(Followers::KMSG);
        }
        let follow = follows(followers)
            .patience(Duration::from_millis(20))
            .log(theirs)
            .clock(&clock.path);
        let broker = Broker::start(&dir, follow);
        clock.restore(7);
        assert_eq!(broker.reaches(1), Cause::ENTROPY_UNKNOWN);
        is_all(&broker, 1);
    }
}

#[test]
fn without_a_record_the_barrier_runs_before_the_change() {
    let (folder, dir) = place();
    let (_log, theirs) = Log::new();
    let clock = Clock::new(folder.path());
    let runs = Arc::new(AtomicU32::new(0));
    let outcome = Arc::new(Mutex::new(Ok(())));
    let barrier = {
        let (runs, outcome, dir) = (Arc::clone(&runs), Arc::clone(&outcome), dir.clone());
        move || {
            // The generation has not changed yet.
            let run = runs.fetch_add(1, Ordering::SeqCst);
            assert_eq!(Client::watch(&dir).status().generation, run);
            outcome.lock().unwrap().clone()
        }
    };
    let follow = follows(Followers::VMCLOCK.with(Followers::KMSG))
        .patience(Duration::from_millis(20))
        .barrier(barrier)
        .log(theirs)
        .clock(&clock.path);
    let broker = Broker::start(&dir, follow);
    clock.restore(1);
    assert_eq!(broker.reaches(1), Cause::RESTORE);

    *outcome.lock().unwrap() = Err("no bytes".into());
    clock.restore(2);
    assert_eq!(broker.reaches(2), Cause::ENTROPY_UNKNOWN);
    let told = broker.told();
    assert!(told.contains("no bytes"), "{told}");
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    is_all(&broker, 2);
}

#[test]
fn a_barrier_that_panics_has_failed() {
    let (folder, dir) = place();
    let clock = Clock::new(folder.path());
    let follow = follows(Followers::VMCLOCK)
        .barrier(|| panic!("a barrier of a test"))
        .clock(&clock.path);
    let broker = Broker::start(&dir, follow);
    clock.restore(1);
    assert_eq!(broker.reaches(1), Cause::ENTROPY_UNKNOWN);
    assert!(broker.told().contains("panicked"));
}

#[test]
fn a_broker_that_follows_a_quiet_log_uses_no_time() {
    let (_folder, dir) = place();
    let broker = Process::serve_following(&dir);
    assert_eq!(Client::watch(&dir).status().followers, Followers::KMSG);
    // The connection of the question is closed before.
    std::thread::sleep(Duration::from_millis(200));
    let before = broker.ticks();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(broker.ticks(), before);
}

#[test]
fn records_that_were_lost_may_have_been_a_restore() {
    let (_folder, dir) = place();
    let (log, theirs) = Log::new();
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    // Read one by one or at once: the first is never a gap.
    log.write("6,10,1,-;a\n");
    log.write("6,11,1,-;a\n");
    log.write("6,13,1,-;a\n");
    assert_eq!(broker.reaches(1), Cause::POSSIBLE);
    log.write("not a record");
    assert_eq!(broker.reaches(2), Cause::POSSIBLE);
    is_all(&broker, 2);
}

#[test]
fn a_broker_that_is_started_again_reads_on_from_where_the_last_one_ended() {
    let (_folder, dir) = place();
    let (log, theirs) = Log::new();
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    log.restore(7);
    broker.reaches(1);
    drop(broker);

    // The ring still has what was dealt with.
    let (log, theirs) = Log::new();
    log.write("6,6,1,-;a\n");
    log.restore(7);
    log.write("6,8,1,-;a\n");
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    log.restore(9);
    assert_eq!(broker.reaches(2), Cause::RESTORE);
    drop(broker);

    // A restore while no broker ran.
    let (log, theirs) = Log::new();
    log.restore(9);
    log.restore(10);
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    assert_eq!(broker.reaches(3), Cause::RESTORE);
    drop(broker);

    // The ring no longer has what follows.
    let (log, theirs) = Log::new();
    log.write("6,100,1,-;a\n");
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    assert_eq!(broker.reaches(4), Cause::POSSIBLE);
    is_all(&broker, 4);
}

#[test]
fn a_counter_that_changed_while_no_broker_ran_is_noticed_and_what_was_handled_is_not() {
    let (folder, dir) = place();
    let clock = Clock::new(folder.path());
    let start = |patience| {
        let (log, theirs) = Log::new();
        let follow = follows(Followers::VMCLOCK.with(Followers::KMSG))
            .patience(patience)
            .log(theirs)
            .clock(&clock.path);
        (Broker::start(&dir, follow), log)
    };
    let impatient = || start(Duration::ZERO);
    clock.restore(5);
    let (broker, _log) = impatient();
    clock.restore(6);
    assert_eq!(broker.reaches(1), Cause::ENTROPY_UNKNOWN);
    drop((broker, _log));

    // What was handled is not handled again: the record is the only change.
    let (broker, log) = impatient();
    log.restore(1);
    assert_eq!(broker.reaches(2), Cause::RESTORE);
    drop((broker, log));

    clock.restore(7);
    let (broker, _log) = impatient();
    assert_eq!(broker.reaches(3), Cause::ENTROPY_UNKNOWN);
    drop((broker, _log));

    // A broker that ends before it has changed the generation leaves that to the next one.
    let (broker, _log) = start(NEVER);
    clock.restore(8);
    std::thread::sleep(Duration::from_millis(120));
    drop((broker, _log));
    let (broker, _log) = impatient();
    assert_eq!(broker.reaches(4), Cause::ENTROPY_UNKNOWN);
    is_all(&broker, 4);
}

#[test]
fn a_page_without_a_word_of_what_was_followed_may_have_missed_a_restore() {
    let (_folder, dir) = place();
    drop(Server::bind(&dir).unwrap());
    let (log, theirs) = Log::new();
    log.write("6,1,1,-;a\n");
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    assert_eq!(broker.reaches(1), Cause::POSSIBLE);
    drop(broker);

    // A damaged word is none.
    fs::write(dir.join("followed"), "x").unwrap();
    let (_log, theirs) = Log::new();
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    assert_eq!(broker.reaches(2), Cause::POSSIBLE);
}

#[test]
fn a_follower_that_fails_is_told_of_and_shown() {
    let (folder, dir) = place();
    let (log, theirs) = Log::new();
    let clock = Clock::new(folder.path());
    let follow = follows(Followers::VMCLOCK.with(Followers::KMSG))
        .patience(Duration::from_millis(20))
        .log(theirs)
        .clock(&clock.path);
    let broker = Broker::start(&dir, follow);
    drop(log);
    let told = broker.told();
    assert!(told.contains("follower kmsg has failed"), "{told}");
    // Its last record may have been a restore.
    assert_eq!(broker.reaches(1), Cause::POSSIBLE);
    let status = Client::watch(&broker.dir).status();
    assert_eq!(status.followers, Followers::VMCLOCK);
    assert_eq!(status.failed, Followers::KMSG);
    // The other still works.
    clock.restore(1);
    assert_eq!(broker.reaches(2), Cause::ENTROPY_UNKNOWN);
}

#[test]
fn the_last_follower_that_fails_leaves_a_broker_that_serves() {
    let (_folder, dir) = place();
    let (log, theirs) = Log::new();
    let broker = Broker::start(&dir, follows(Followers::KMSG).log(theirs));
    drop(log);
    let told = broker.told();
    assert!(told.contains("sysgenid trigger"), "{told}");
    broker.reaches(1);
    is_all(&broker, 1);
}

#[test]
fn a_follower_that_is_named_must_work_and_auto_takes_those_that_do() {
    let (folder, dir) = place();
    let missing = folder.path().join("missing");
    let mut server = Server::bind(&dir).unwrap();
    let each = [
        (
            Followers::VMCLOCK,
            follows(Followers::VMCLOCK).clock(&missing),
        ),
        (
            Followers::VMGENID,
            follows(Followers::VMGENID).counter(&missing),
        ),
        (
            Followers::GVISOR,
            follows(Followers::GVISOR).checkpoint(&missing),
        ),
        (Followers(1 << 9), follows(Followers(1 << 9))),
    ];
    for (follower, follow) in each {
        let error = server.follow(follow).unwrap_err();
        assert!(error.is_no_follower(), "{error}");
        let expected = format!("cannot follow {follower}: ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }

    let (_log, theirs) = Log::new();
    let auto = Follow::new(Choice::Auto)
        .log(theirs)
        .clock(&missing)
        .counter(&missing)
        .checkpoint(&missing);
    let report = server.follow(auto).unwrap();
    assert_eq!(report.followers, Followers::KMSG);
    let followers: Vec<_> = report.missing.iter().map(|it| it.follower).collect();
    assert_eq!(
        followers,
        [Followers::VMCLOCK, Followers::VMGENID, Followers::GVISOR]
    );
    for missing in report.missing {
        assert!(missing.to_string().contains("No such file"), "{missing}");
    }
    let report = server.follow(Follow::new(Choice::None)).unwrap();
    assert!(report.followers.is_empty() && report.missing.is_empty());
}

#[test]
fn gvisor_s_restore_is_a_change_and_its_resume_is_none() {
    let (folder, dir) = place();
    let checkpoint = Checkpoint::new(folder.path());
    let follow = follows(Followers::GVISOR).checkpoint(&checkpoint.0);
    let broker = Broker::start(&dir, follow);
    // The blocked follower does not hold up the broker.
    assert_eq!(Client::watch(&broker.dir).status().generation, 0);
    checkpoint.say("resume\n");
    checkpoint.say("restore\n");
    assert_eq!(broker.reaches(1), Cause::RESTORE);
    checkpoint.say("error");
    assert_eq!(broker.reaches(2), Cause::POSSIBLE);
    is_all(&broker, 2);

    checkpoint.say("");
    let told = broker.told();
    assert!(told.contains("follower gvisor has failed"), "{told}");
    assert_eq!(broker.reaches(4), Cause::POSSIBLE);
}
