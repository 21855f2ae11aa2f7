// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What discovery believes, and what it does not: the environment of a program with more rights than
//! its caller, directories of other users, device nodes that nothing proves.
//!
//! What belongs to a whole process, or to a mount namespace, is tested in a child: the test runs this
//! program again, with its own name and `SYSGENID_TEST_CHILD`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[allow(dead_code, reason = "a case is reported elsewhere")]
#[path = "../../conformance/tests/common/skipped.rs"]
mod skipped;

use std::ffi::OsStr;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rustix::fs::inotify;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use skipped::skipped;
use sysgenid::{Error, Orchestrator, Probe, Source, SourceKind, Watcher, Witness};

const CHILD: &str = "SYSGENID_TEST_CHILD";
const NOBODY: u32 = 65_534;
const SOMEBODY: u32 = 65_533;

/// What the child was given, if this is one.
fn given() -> Option<String> {
    std::env::var(CHILD).ok()
}

/// A command that runs only this test of this program, in which [`given`] is `given`.
fn child(test: &str, program: impl AsRef<OsStr>, given: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--nocapture"])
        .env_remove("SYSGENID_SOURCE")
        .env_remove("XDG_RUNTIME_DIR")
        .env(CHILD, given);
    command
}

fn this_program() -> std::path::PathBuf {
    std::env::current_exe().unwrap()
}

fn succeeds(command: &mut Command) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(text.contains("1 passed"), "the test has run: {text}");
}

/// Runs the test in a mount namespace of its own after `script`, whose arguments are `arguments`.
/// `false` if nothing can be mounted here.
fn succeeds_after(test: &str, script: &str, arguments: &[&Path]) -> bool {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can mount");
        return false;
    }
    let whole = format!(
        "{{ {script}\n}} || exit 77; shift {}; exec \"$@\"",
        arguments.len()
    );
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", &whole, "sh"])
        .args(arguments)
        .arg(this_program())
        .args(["--exact", test, "--nocapture"])
        .env_remove("SYSGENID_SOURCE")
        .env_remove("XDG_RUNTIME_DIR")
        .env(CHILD, arguments.first().unwrap_or(&Path::new("")));
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (said, why) = [&stdout, &stderr]
        .map(|text| String::from_utf8_lossy(text))
        .into();
    if matches!(status.code(), Some(1 | 77)) && said.is_empty() && !why.is_empty() {
        skipped(format_args!("nothing can be mounted here: {why}"));
        return false;
    }
    assert!(
        status.success() && said.contains("1 passed"),
        "{said}\n{why}"
    );
    true
}

/// A directory in which a broker has run, and which anyone may enter.
fn directory_of_a_broker(path: &Path) {
    fs::create_dir_all(path).unwrap();
    drop(sysgenid_broker::spawn(path).unwrap());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn open_to_all() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// All that look for a source refuse the one that is there.
#[track_caller]
fn all_refuse(is_expected: impl Fn(&Error) -> bool) {
    for error in [
        Source::discover().unwrap_err(),
        Source::discover_for_probe().unwrap_err(),
        Watcher::open().unwrap_err(),
        Probe::open().unwrap_err(),
        Orchestrator::open().unwrap_err(),
        sysgenid::ProcessWide.verify().unwrap_err(),
    ] {
        assert!(is_expected(&error), "{error:?}");
    }
}

#[test]
fn a_runtime_directory_that_is_not_absolute_is_none() {
    const NAME: &str = "a_runtime_directory_that_is_not_absolute_is_none";
    if given().is_some() {
        match Source::discover() {
            Ok(found) => assert!(found.path().is_absolute(), "{found:?}"),
            Err(error) => assert!(error.is_absent(), "{error:?}"),
        }
        return;
    }
    let trap = open_to_all();
    directory_of_a_broker(&trap.path().join("sysgenid"));
    for directory in ["", ".", "sysgenid/..", "./"] {
        let mut child = child(NAME, this_program(), "");
        succeeds(child.env("XDG_RUNTIME_DIR", directory).current_dir(&trap));
    }
}

#[test]
fn a_watcher_is_opened_if_there_is_any_and_a_named_source_must_be_there() {
    const NAME: &str = "a_watcher_is_opened_if_there_is_any_and_a_named_source_must_be_there";
    match given().as_deref() {
        Some("none") => {
            assert_eq!(
                Watcher::open_if_any().unwrap().is_some(),
                Watcher::open().is_ok()
            );
            let protection = sysgenid::init();
            assert_eq!(protection.shows_restores(), Probe::open().is_ok());
            assert!(
                protection.to_string().starts_with("restores: "),
                "{protection}"
            );
        }
        Some("absent") => {
            assert!(Watcher::open_if_any().unwrap_err().is_absent());
            let protection = sysgenid::protection();
            assert!(!protection.shows_restores());
            assert!(protection.to_string().contains("no source"), "{protection}");
        }
        Some(named) => {
            let watcher = Watcher::open_if_any().unwrap().unwrap();
            assert_eq!(watcher.source().unwrap().path(), Path::new(named));
            let protection = sysgenid::protection();
            assert!(protection.shows_restores());
            assert!(
                protection.to_string().contains("tab\\there"),
                "{protection}"
            );
        }
        None => {
            succeeds(&mut child(NAME, this_program(), "none"));
            let mut absent = child(NAME, this_program(), "absent");
            succeeds(absent.env("SYSGENID_SOURCE", "/nonexistent"));
            let directory = open_to_all();
            let directory = directory.path().join("tab\there");
            fs::create_dir_all(&directory).unwrap();
            let _broker = sysgenid_broker::spawn(&directory).unwrap();
            let mut named = child(NAME, this_program(), &directory);
            succeeds(named.env("SYSGENID_SOURCE", &directory));
        }
    }
}

#[test]
fn a_program_with_more_rights_than_its_caller_ignores_the_environment() {
    const NAME: &str = "a_program_with_more_rights_than_its_caller_ignores_the_environment";
    if let Some(expected) = given() {
        let found = Source::discover().ok().filter(|found| {
            // What the machine itself has is found by anyone.
            !found.path().starts_with("/dev") && !found.path().starts_with("/run/sysgenid")
        });
        let found = found.map(|found| found.path().to_owned());
        assert_eq!(
            found.as_deref(),
            Some(Path::new(&expected)).filter(|_| !expected.is_empty())
        );
        let sources: Vec<_> = sysgenid::protection().sources().map(Source::path).collect();
        let told = sources.iter().any(|path| *path == Path::new(&expected));
        assert_eq!(told, !expected.is_empty(), "{sources:?}");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        skipped("only root can give a program to another user");
        return;
    }
    let folder = open_to_all();
    let directory = folder.path().join("sysgenid");
    directory_of_a_broker(&directory);
    let copy = folder.path().join("program");
    // By another process: a child of another test could hold the copy open for writing, and what is
    // written to cannot be started.
    let copied = Command::new("cp").arg(this_program()).arg(&copy).status();
    assert!(copied.unwrap().success());
    let run = |expected: &Path| {
        for (name, value) in [
            ("SYSGENID_SOURCE", directory.as_path()),
            ("XDG_RUNTIME_DIR", folder.path()),
        ] {
            succeeds(child(NAME, &copy, expected).env(name, value));
        }
    };
    run(&directory);
    chown(&copy, Some(NOBODY), None).unwrap();
    run(&directory);
    // From here on the kernel starts it with the rights of its owner.
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    run(Path::new(""));
    // And with those of its group.
    chown(&copy, Some(0), Some(NOBODY)).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o2755)).unwrap();
    run(Path::new(""));
}

#[test]
fn a_directory_of_another_user_is_not_discovered() {
    const NAME: &str = "a_directory_of_another_user_is_not_discovered";
    match given().as_deref() {
        None => {}
        Some("") => return all_refuse(Error::is_wrong_kind),
        Some(_) => {
            assert_eq!(Source::discover().unwrap().kind(), SourceKind::Broker);
            Probe::open().unwrap();
            // It is believed, but no broker changes its page.
            assert!(sysgenid::ProcessWide.verify().unwrap_err().is_lost());
            return;
        }
    }
    if !rustix::process::geteuid().is_root() || Path::new("/dev/sysgenid").exists() {
        skipped("only root can give a directory to another user");
        return;
    }
    let runtime = open_to_all();
    let directory = runtime.path().join("sysgenid");
    directory_of_a_broker(&directory);
    let run = |given: &str| {
        succeeds(child(NAME, this_program(), given).env("XDG_RUNTIME_DIR", runtime.path()));
    };
    run("used");

    chown(&directory, Some(NOBODY), None).unwrap();
    run("");
    chown(directory.join("page"), Some(NOBODY), None).unwrap();
    run("");
    chown(&directory, Some(0), None).unwrap();
    // The directory is root's, and the page in it is not.
    let error = Probe::open_at(&directory).unwrap_err();
    assert!(error.is_wrong_kind(), "{error:?}");
    chown(directory.join("page"), Some(0), None).unwrap();
    run("used");

    for mode in [0o775, 0o757, 0o1777] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        run("");
    }
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    run("used");

    // Somebody could have it lead anywhere.
    fs::rename(&directory, runtime.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &directory).unwrap();
    run("");

    // Named, it is the caller's choice.
    fs::remove_file(&directory).unwrap();
    fs::rename(runtime.path().join("elsewhere"), &directory).unwrap();
    chown(&directory, Some(NOBODY), None).unwrap();
    let mut named = child(NAME, this_program(), "named");
    succeeds(named.env("SYSGENID_SOURCE", &directory));
}

#[test]
fn a_page_without_its_broker_is_reported() {
    const NAME: &str = "a_page_without_its_broker_is_reported";
    if let Some(directory) = given() {
        let directory = Path::new(&directory);
        let page = fs::read(directory.join("page")).unwrap();
        let broker = sysgenid_broker::spawn(directory).unwrap();
        sysgenid::ProcessWide.verify().unwrap();
        drop(broker);
        assert_eq!(fs::read(directory.join("page")).unwrap(), page);
        assert!(sysgenid::ProcessWide.shows_restores());
        assert!(sysgenid::ProcessWide.verify().unwrap_err().is_lost());
        // A socket that no process accepts from.
        let socket = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
        let path = directory.join("watch.sock");
        let _ = fs::remove_file(&path);
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        assert!(sysgenid::ProcessWide.verify().unwrap_err().is_lost());
        listen(&socket, 8).unwrap();
        assert!(sysgenid::ProcessWide.verify().unwrap_err().is_timeout());
        drop(socket);
        let _broker = sysgenid_broker::spawn(directory).unwrap();
        sysgenid::ProcessWide.verify().unwrap();
        return;
    }
    let runtime = open_to_all();
    let directory = runtime.path().join("sysgenid");
    directory_of_a_broker(&directory);
    let mut named = child(NAME, this_program(), &directory);
    succeeds(named.env("SYSGENID_SOURCE", &directory));
}

#[test]
fn a_broker_that_runs_as_another_user_is_not_believed() {
    const NAME: &str = "a_broker_that_runs_as_another_user_is_not_believed";
    if given().is_some() {
        let error = Watcher::open().unwrap_err();
        assert!(error.is_wrong_kind(), "{error:?}");
        assert!(
            error.to_string().contains("runs as a user other"),
            "{error}"
        );
        let status = Source::discover().unwrap().status(Duration::ZERO);
        assert!(status.unwrap_err().is_wrong_kind());
        return;
    }
    if !rustix::process::geteuid().is_root() || Path::new("/dev/sysgenid").exists() {
        skipped("only root can be another user");
        return;
    }
    let runtime = open_to_all();
    let directory = runtime.path().join("sysgenid");
    directory_of_a_broker(&directory);
    let listener = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let address = SocketAddrUnix::new(directory.join("watch.sock")).unwrap();
    let _ = fs::remove_file(directory.join("watch.sock"));
    bind(&listener, &address).unwrap();
    // The kernel keeps who listens, not who has bound the address.
    let listener: OwnedFd = std::thread::spawn(move || {
        let somebody = rustix::fs::Uid::from_raw(SOMEBODY);
        rustix::thread::set_thread_res_uid(somebody, somebody, somebody).unwrap();
        listen(&listener, 8).unwrap();
        listener
    })
    .join()
    .unwrap();
    succeeds(child(NAME, this_program(), "").env("XDG_RUNTIME_DIR", runtime.path()));
    drop(listener);
}

#[test]
fn a_service_of_another_user_is_discovered_where_root_has_put_it() {
    const NAME: &str = "a_service_of_another_user_is_discovered_where_root_has_put_it";
    if given().is_some() {
        assert_eq!(
            Source::discover().unwrap().path(),
            Path::new("/run/sysgenid")
        );
        Probe::open().unwrap();
        fs::set_permissions("/run", fs::Permissions::from_mode(0o1777)).unwrap();
        all_refuse(Error::is_wrong_kind);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    directory_of_a_broker(folder.path());
    succeeds_after(
        NAME,
        "mount -t tmpfs -o mode=755 none /run && cp -a \"$1\" /run/sysgenid
         chown -R 65534 /run/sysgenid
         ! test -e /dev/sysgenid",
        &[folder.path()],
    );
}

/// The mount that serves clients which know no other path.
#[test]
fn a_page_that_is_mounted_over_the_device_leads_to_its_broker() {
    const NAME: &str = "a_page_that_is_mounted_over_the_device_leads_to_its_broker";
    if let Some(page) = given() {
        assert_eq!(
            Source::at("/dev/sysgenid").unwrap().kind(),
            SourceKind::PageFile
        );
        let found = Source::discover().unwrap();
        if page == "/run/other" {
            assert_eq!(found.kind(), SourceKind::PageFile, "it is another page");
            assert!(Watcher::open().unwrap_err().is_unsupported());
            return;
        }
        assert_eq!(found.path(), Path::new("/run/sysgenid"));
        let _broker = sysgenid_broker::spawn("/run/sysgenid").unwrap();
        let watcher = Watcher::open().unwrap();
        let probe = Probe::open().unwrap();
        let mapped = Probe::open_at("/dev/sysgenid").unwrap();
        let changed = Orchestrator::open().unwrap().trigger().unwrap();
        assert_eq!(watcher.wait(Duration::from_secs(20)).unwrap(), changed);
        assert_eq!(
            (probe.generation(), mapped.generation()),
            (changed, changed)
        );
        sysgenid::ProcessWide.verify().unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    directory_of_a_broker(folder.path());
    for page in ["/run/sysgenid/page", "/run/other"] {
        succeeds_after(
            NAME,
            "mount -t tmpfs -o mode=755 none /dev && : >/dev/sysgenid
             mknod /dev/null c 1 3 && mount -t tmpfs -o mode=755 none /run
             cp -a \"$2\" /run/sysgenid && cp /run/sysgenid/page /run/other
             mount --bind \"$1\" /dev/sysgenid",
            &[Path::new(page), folder.path()],
        );
    }
}

/// To open a watchdog starts it, and a byte that is written to a device may be a command.
#[test]
fn a_node_that_is_not_proven_to_be_the_device_is_not_opened() {
    const NAME: &str = "a_node_that_is_not_proven_to_be_the_device_is_not_opened";
    if let Some(node) = given() {
        let events = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        let watched = inotify::WatchFlags::OPEN | inotify::WatchFlags::MODIFY;
        inotify::add_watch(&events, &node, watched).unwrap();
        let is_silent = || {
            let mut buffer = [MaybeUninit::uninit(); 512];
            inotify::Reader::new(&events, &mut buffer).next().is_err()
        };
        for error in [
            Source::at(&node).unwrap_err(),
            Watcher::open_at(&node).unwrap_err(),
            Probe::open_at(&node).unwrap_err(),
        ] {
            assert!(error.is_wrong_kind(), "{error:?}");
        }
        assert!(is_silent(), "the node was opened");
        // The control: an event would have been seen.
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&node)
            .unwrap();
        assert!(!is_silent());
        return;
    }
    // A device that can be opened and written to without harm, under the names of others.
    let Some(minor) = minor_of("loop-control").or_else(|| minor_of("userfaultfd")) else {
        skipped("no harmless misc device here");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["watchdog", "sysgenid", "vmgenid", "vmclock0"] {
        for hide in ["true", "mount -t tmpfs none /sys", HIDE_BOTH] {
            let node = folder.path().join(name);
            let script = format!(
                "mount -t tmpfs none {0:?} && mknod \"$1\" c 10 {minor} && {hide}",
                folder.path()
            );
            if !succeeds_after(NAME, &script, &[&node]) {
                return;
            }
        }
    }
}

const HIDE_BOTH: &str = "mount -t tmpfs none /sys && mount -t tmpfs none /proc";

fn minor_of(device: &str) -> Option<u32> {
    let list = fs::read_to_string("/proc/misc").ok()?;
    let line = list
        .lines()
        .find(|line| line.ends_with(&format!(" {device}")))?;
    line.split_whitespace().next()?.parse().ok()
}
