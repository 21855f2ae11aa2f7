// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What happens to a directory while a broker serves it: noticed, told once, and survived.

use crate::skipped::skipped;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use sysgenid_broker::{Incident, Server, Stopper};
use sysgenid_sys::wire::{Answer, CONTROL_SOCKET, Op, PAGE_FILE, WATCH_SOCKET};

use crate::child::Process;
use crate::client::{Client, Watcher, readable};

/// A broker that tells.
struct Broker {
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    incidents: Receiver<Incident>,
}

impl Broker {
    fn serve(dir: &Path) -> Self {
        Self::run(Server::bind(dir).unwrap())
    }

    fn run(mut server: Server) -> Self {
        let (tell, incidents) = channel();
        server.on_incident(move |incident| drop(tell.send(incident)));
        Self {
            stopper: server.stopper(),
            thread: Some(std::thread::spawn(move || server.run().unwrap())),
            incidents,
        }
    }

    fn next(&self) -> Incident {
        let incident = self.incidents.recv_timeout(Duration::from_secs(60));
        incident.expect("nothing is told")
    }

    /// The next one says that this was removed, and nothing else is told.
    fn says_removed(&self, path: &Path) {
        let incident = self.next();
        let said = incident.to_string();
        assert!(
            matches!(&incident, Incident::Removed { path: told, .. } if told == path),
            "{said}"
        );
        let start = format!("{} was removed or replaced: ", path.display());
        assert!(said.starts_with(&start), "{said}");
        self.says_nothing();
    }

    fn says_nothing(&self) {
        match self.incidents.recv_timeout(Duration::from_millis(50)) {
            Err(RecvTimeoutError::Timeout) => {}
            told => panic!("not told twice, and nothing else: {told:?}"),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.stopper.stop();
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking());
    }
}

fn truncate(page: &Path, len: u64) {
    let file = OpenOptions::new().write(true).open(page).unwrap();
    file.set_len(len).unwrap();
}

fn page_of(dir: &Path) -> Vec<u8> {
    fs::read(dir.join(PAGE_FILE)).unwrap()
}

fn page_with(generation: u32) -> Vec<u8> {
    let mut page = vec![0; 4096];
    page[..4].copy_from_slice(&generation.to_ne_bytes());
    page
}

#[test]
fn a_page_that_its_owner_cuts_is_put_back_and_the_counter_goes_on() {
    // In a process of its own: this one would end with it.
    let directory = tempfile::tempdir().unwrap();
    let _broker = Process::serve(directory.path());
    let page = directory.path().join(PAGE_FILE);
    let mut control = Client::control(directory.path());
    assert_eq!(control.trigger(0x0102_0304).generation, 0x0102_0304);
    let mut expected = 0x0102_0304;
    for len in [0, 2, 4, 4095].into_iter().cycle().take(200) {
        truncate(&page, len);
        expected += 1;
        assert_eq!(control.trigger(0).generation, expected, "cut to {len}");
        assert_eq!(page_of(directory.path()), page_with(expected));
    }
    let watcher = Watcher::tracked(directory.path());
    assert_eq!(watcher.map.load(), expected);
}

#[test]
fn a_page_that_is_cut_or_overwritten_is_put_back_without_a_trigger_and_told() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join(PAGE_FILE);
    let broker = Broker::serve(directory.path());
    Client::control(directory.path()).trigger(7);
    broker.says_nothing();
    for len in [0, 2] {
        truncate(&page, len);
        let incident = broker.next();
        let said = incident.to_string();
        assert!(
            matches!(incident, Incident::Shortened { len: told, .. } if told == len),
            "{said}"
        );
        assert!(said.contains(&format!("to {len} bytes")), "{said}");
        broker.says_nothing();
        assert_eq!(page_of(directory.path()), page_with(7));
    }

    let mut file = OpenOptions::new().write(true).open(&page).unwrap();
    file.write_all(&3_u32.to_ne_bytes()).unwrap();
    let incident = broker.next();
    assert!(
        matches!(incident, Incident::Overwritten { found: 3, .. }),
        "{incident}"
    );
    broker.says_nothing();
    assert_eq!(page_of(directory.path()), page_with(7));
}

#[test]
fn a_page_that_cannot_be_put_back_fails_the_trigger_and_not_the_broker() {
    let directory = tempfile::tempdir().unwrap();
    let dir = directory.path().join("full");
    fs::create_dir(&dir).unwrap();
    let path = dir.display();
    let script = format!("mount -t tmpfs -o size=64k,mode=755 none '{path}'");
    let mut broker = match Process::serve_after(&dir, &script) {
        Ok(broker) => broker,
        Err(reason) => return skipped(format_args!("no file system of its own here: {reason}")),
    };
    // Its directory as that process sees it.
    let dir = Path::new("/proc").join(format!("{}/root{}", broker.id(), dir.display()));
    let mut control = Client::control(&dir);
    let mut watcher = Watcher::tracked(&dir);
    assert_eq!(control.trigger(0).generation, 1);
    watcher.acknowledge(1).unwrap();

    let mut file = File::create(dir.join("filler")).unwrap();
    broker.freeze();
    truncate(&dir.join(PAGE_FILE), 0);
    file.write_all(&[1; 131_072]).expect_err("a full disk");
    control.send(Op::Trigger, [0, 0]);
    broker.thaw();
    assert_eq!(control.reply().answer, Answer::NotStored);
    // Not with a look at the page: that would be a SIGBUS here.
    assert!(readable(&watcher.client.socket, Duration::from_secs(60)));
    let said = broker.told();
    assert!(
        said.contains("page") && said.contains("free at least 4096 bytes"),
        "{said}"
    );

    fs::remove_file(dir.join("filler")).unwrap();
    drop(file);
    assert_eq!(Client::control(&dir).trigger(0).generation, 3);
    assert_eq!(page_of(&dir), page_with(3));
}

#[test]
fn a_page_that_is_removed_or_replaced_is_told() {
    type Change<'a> = &'a dyn Fn(&Path);
    let changes: [Change<'_>; 3] = [
        &|page| fs::remove_file(page).unwrap(),
        &|page| {
            let other = page.with_extension("other");
            fs::write(&other, [0; 4096]).unwrap();
            fs::rename(other, page).unwrap();
        },
        &|page| fs::rename(page, page.with_extension("old")).unwrap(),
    ];
    for change in changes {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::serve(directory.path());
        let watcher = Watcher::tracked(directory.path());
        let page = directory.path().join(PAGE_FILE);
        change(&page);
        broker.says_removed(&page);
        // Who has mapped it goes on.
        Client::control(directory.path()).trigger(5);
        assert_eq!(watcher.map.load(), 5);
        // Another look finds the same.
        let other = directory.path().join("other");
        fs::write(&other, b"").unwrap();
        fs::remove_file(&other).unwrap();
        broker.says_nothing();
    }
}

#[test]
fn a_socket_or_the_lock_that_is_removed_is_told() {
    for name in [WATCH_SOCKET, CONTROL_SOCKET, "lock"] {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::serve(directory.path());
        let path = directory.path().join(name);
        fs::remove_file(&path).unwrap();
        broker.says_removed(&path);
    }
}

#[test]
fn a_directory_that_is_renamed_or_removed_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("served");
    let broker = Broker::serve(&dir);
    let mut control = Client::control(&dir);
    fs::rename(&dir, parent.path().join("elsewhere")).unwrap();
    broker.says_removed(&dir);
    assert_eq!(control.trigger(0).generation, 1, "it serves its clients");
    // Back, and away again: another incident.
    fs::rename(parent.path().join("elsewhere"), &dir).unwrap();
    // Answered after what came before.
    control.status();
    broker.says_nothing();
    fs::rename(&dir, parent.path().join("elsewhere")).unwrap();
    broker.says_removed(&dir);
    drop(broker);

    let broker = Broker::serve(&dir);
    fs::remove_dir_all(&dir).unwrap();
    let mut removed: Vec<_> = (0..5)
        .map(|_| match broker.next() {
            Incident::Removed { path, .. } => path,
            other => panic!("{other}"),
        })
        .collect();
    removed.sort();
    let mut expected = vec![dir.clone()];
    expected.extend([CONTROL_SOCKET, "lock", PAGE_FILE, WATCH_SOCKET].map(|name| dir.join(name)));
    assert_eq!(removed, expected);
    broker.says_nothing();
}

#[test]
fn a_directory_that_is_removed_some_time_after_its_files_is_told() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("served");
    let broker = Broker::serve(&dir);
    for name in [CONTROL_SOCKET, "lock", PAGE_FILE, WATCH_SOCKET] {
        fs::remove_file(dir.join(name)).unwrap();
        broker.says_removed(&dir.join(name));
    }
    fs::remove_dir(&dir).unwrap();
    broker.says_removed(&dir);
}

#[test]
fn what_happens_before_the_broker_runs_is_told_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::bind(directory.path()).unwrap();
    let page = directory.path().join(PAGE_FILE);
    fs::remove_file(&page).unwrap();
    Broker::run(server).says_removed(&page);
}

#[test]
fn what_others_can_write_from_now_on_is_told() {
    for name in ["", PAGE_FILE] {
        let directory = tempfile::tempdir().unwrap();
        let broker = Broker::serve(directory.path());
        let path = directory.path().join(name);
        fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
        let incident = broker.next();
        assert!(
            matches!(incident, Incident::Exposed { mode: 0o777, .. }),
            "{incident}"
        );
        broker.says_nothing();
    }
}

#[test]
fn a_page_that_gets_another_name_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let broker = Broker::serve(directory.path());
    let page = directory.path().join(PAGE_FILE);
    let other = elsewhere.path().join("other");
    fs::hard_link(&page, &other).unwrap();
    let incident = broker.next();
    assert!(
        matches!(&incident, Incident::Linked { path } if *path == page),
        "{incident}"
    );
    truncate(&other, 0);
    let incident = broker.next();
    assert!(
        matches!(incident, Incident::Shortened { len: 0, .. }),
        "{incident}"
    );
    broker.says_nothing();
}

#[test]
fn more_events_than_the_kernel_keeps_hide_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::bind(directory.path()).unwrap();
    // The limit is 16384 by default. Equal events in a row are one, so these differ.
    let names = ["a", "b"].map(|name| directory.path().join(name));
    for name in &names {
        File::create(name).unwrap();
    }
    for round in 0..9000 {
        for name in &names {
            let mode = 0o600 | round & 1;
            fs::set_permissions(name, Permissions::from_mode(mode)).unwrap();
        }
    }
    let watch = directory.path().join(WATCH_SOCKET);
    fs::remove_file(&watch).unwrap();
    Broker::run(server).says_removed(&watch);
}

#[test]
fn a_broker_that_cannot_watch_serves_and_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let script = "echo 0 > /proc/sys/user/max_inotify_instances";
    let flags = ["--user", "--map-root-user"];
    let mut broker = match Process::serve_unshared(directory.path(), &flags, script) {
        Ok(broker) => broker,
        Err(reason) => return skipped(format_args!("no user namespace here: {reason}")),
    };
    let said = broker.told();
    assert!(said.contains("max_user_instances"), "{said}");
    assert_eq!(Client::control(directory.path()).trigger(0).generation, 1);
    // The length is still checked before each store.
    truncate(&directory.path().join(PAGE_FILE), 0);
    assert_eq!(Client::control(directory.path()).trigger(0).generation, 2);
}
