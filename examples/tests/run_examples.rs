// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Every example, run against a broker.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use sysgenid::{Generation, Orchestrator, Watcher};

/// For one line, or for an end. Much, because other tests may run beside this one.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker in a folder of its own.
struct Broker {
    folder: tempfile::TempDir,
    _broker: sysgenid_broker::Background,
}

impl Broker {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = sysgenid_broker::spawn(folder.path()).unwrap();
        Self {
            folder,
            _broker: broker,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn trigger(&self) -> Generation {
        Orchestrator::open_at(self.path())
            .unwrap()
            .trigger()
            .unwrap()
    }
}

/// An example that runs, killed when dropped.
struct Example {
    child: Child,
    lines: Receiver<String>,
}

impl Example {
    fn start(name: &str, source: &Path) -> Self {
        Self::run(Command::new(executable(name)).env(sysgenid::SOURCE_VARIABLE, source))
    }

    /// Without a source: it starts one of its own.
    fn start_alone(name: &str) -> Self {
        Self::run(Command::new(executable(name)).env_remove(sysgenid::SOURCE_VARIABLE))
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines
            .recv_timeout(PATIENCE)
            .expect("the example printed nothing more")
    }

    /// The next line, which begins like this; returns the rest.
    fn expect(&self, start: &str) -> String {
        let line = self.line();
        line.strip_prefix(start)
            .unwrap_or_else(|| panic!("{line:?}, not {start:?}"))
            .to_owned()
    }

    /// How it ended and what it wrote to its standard error.
    fn end(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + PATIENCE;
        while self.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < end, "the example does not end");
            thread::sleep(Duration::from_millis(5));
        }
        let stderr = std::io::read_to_string(self.child.stderr.take().unwrap()).unwrap();
        (self.child.wait().unwrap(), stderr)
    }

    fn succeeds(self) {
        let (status, stderr) = self.end();
        assert!(status.success(), "{status}: {stderr}");
        assert_eq!(stderr, "");
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tests are in `deps`, beside the `examples` of the same profile.
fn executable(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    let path = profile.join("examples").join(name);
    assert!(
        path.is_file(),
        "{} is missing: `cargo test -p sysgenid-examples` builds it, unless targets are selected \
         (`--test`, `--all-targets`)",
        path.display()
    );
    path
}

fn counts(broker: &Broker) -> sysgenid::WatcherCounts {
    let source = sysgenid::Source::at(broker.path()).unwrap();
    source.status(PATIENCE).unwrap().watchers.unwrap()
}

#[test]
fn watchdog_thread_replaces_the_session_on_each_change() {
    let broker = Broker::start();
    let example = Example::start("watchdog_thread", broker.path());
    assert_eq!(example.expect("watching from generation "), "0");
    assert_eq!(counts(&broker).tracked, 1, "an orchestrator waits for it");

    let mut sessions = Vec::new();
    for number in 1..=3 {
        assert_eq!(broker.trigger().get(), number);
        sessions.push(example.expect(&format!("generation {number}: session ")));
    }
    sessions.dedup();
    assert_eq!(sessions.len(), 3, "{sessions:?}");
    example.succeeds();
}

#[test]
fn poll_event_loop_replaces_the_token_before_the_next_answer() {
    replaces_the_token_before_the_next_answer("poll_event_loop");
}

#[test]
fn answer_requests_replaces_the_token_before_the_next_answer() {
    replaces_the_token_before_the_next_answer("answer_requests");
}

fn replaces_the_token_before_the_next_answer(name: &str) {
    let broker = Broker::start();
    let mut example = Example::start(name, broker.path());
    example.expect("ready at generation 0");
    let mut requests = example.child.stdin.take().unwrap();
    let mut ask = |example: &Example| {
        requests.write_all(b"a request\n").unwrap();
        example.line()
    };

    let first = ask(&example);
    assert!(first.starts_with("answered with token "), "{first:?}");
    assert_eq!(ask(&example), first, "nothing has changed");

    broker.trigger();
    example.expect("generation 1: token replaced");
    let second = ask(&example);
    assert!(second.starts_with("answered with token "), "{second:?}");
    assert_ne!(second, first);
    assert_eq!(counts(&broker).outdated, 0, "it has acknowledged");

    drop(requests);
    example.succeeds();
}

#[test]
fn guard_cached_secret_builds_a_key_for_each_generation() {
    let broker = Broker::start();
    let example = Example::start("guard_cached_secret", broker.path());
    let mut keys = vec![example.expect("generation 0: key ")];
    assert_eq!(counts(&broker).total, 0, "a probe is no watcher");
    for number in 1..=3 {
        broker.trigger();
        keys.push(example.expect(&format!("generation {number}: key ")));
    }
    keys.dedup();
    assert_eq!(keys.len(), 4, "{keys:?}");
    example.succeeds();
}

#[test]
fn share_guarded_key_makes_one_key_for_each_generation() {
    let broker = Broker::start();
    let example = Example::start("share_guarded_key", broker.path());
    example.expect("generation 0: a key for all threads");
    for number in 1..=3 {
        broker.trigger();
        example.expect(&format!("generation {number}: a key for all threads"));
    }
    assert_eq!(counts(&broker).total, 0, "a guard is no watcher");
    example.succeeds();
}

#[test]
fn make_unique_ids_makes_others_in_each_generation() {
    let broker = Broker::start();
    let example = Example::start("make_unique_ids", broker.path());
    let mut lines = vec![example.expect("generation 0: ")];
    for number in 1..=3 {
        broker.trigger();
        lines.push(example.expect(&format!("generation {number}: ")));
    }
    let mut ids: Vec<_> = lines.iter().flat_map(|line| line.split(' ')).collect();
    let versions: Vec<_> = ids.iter().map(|id| id.as_bytes()[14]).collect();
    assert_eq!(versions, b"47474747", "{ids:?}");
    assert!(ids.iter().all(|id| id.len() == 36), "{ids:?}");
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 8, "{ids:?}");
    example.succeeds();
}

#[test]
fn orchestrate_restore_resumes_when_all_have_acknowledged() {
    let broker = Broker::start();
    let service = Watcher::open_at(broker.path()).unwrap();
    let example = Example::start("orchestrate_restore", broker.path());
    example.expect("quiesced at generation 0");
    example.expect("generation 1: node ");
    assert_eq!(service.wait(PATIENCE).unwrap().get(), 1);
    assert!(
        example.lines.try_recv().is_err(),
        "it waits for the service"
    );

    service.acknowledge(Generation::new(1)).unwrap();
    example.expect("all have acknowledged generation 1: resumed");
    example.succeeds();
}

#[test]
fn orchestrate_restore_names_those_who_are_missing() {
    let broker = Broker::start();
    let _service = Watcher::open_at(broker.path()).unwrap();
    let example = Example::start("orchestrate_restore", broker.path());
    example.expect("quiesced at generation 0");
    example.expect("generation 1: node ");

    let missing = example.expect("not ready: ");
    let pid = format!("(pid {}), at generation 0", std::process::id());
    assert!(missing.ends_with(&pid), "{missing:?}");
    let (status, stderr) = example.end();
    assert_eq!(status.code(), Some(1));
    assert!(stderr.contains("deadline"), "{stderr}");
}

/// `change` is called where the example waits for one.
fn shows_that_old_tickets_are_refused(example: Example, change: impl FnOnce(&Example)) {
    example.expect("generation 0: https://127.0.0.1:");
    example.expect("client: Full handshake, HTTP/1.1 200 OK");
    example.expect("client: Resumed handshake, HTTP/1.1 200 OK");
    example.expect("client: one connection open, and one handshake half done");
    change(&example);
    example.expect("generation 1: old connections have ended, a new ticket key is made");
    example.expect("client: the open connection was cut, without a word");
    example.expect("client: the handshake was cut, without a word");
    example.expect("server: refused a ticket that its key did not make");
    example.expect("client: Full handshake, HTTP/1.1 200 OK");
    example.expect("client: Resumed handshake, HTTP/1.1 200 OK");
    example.succeeds();
}

#[test]
fn axum_rotate_tickets_refuses_the_tickets_of_before() {
    shows_that_old_tickets_are_refused(Example::start_alone("axum_rotate_tickets"), |_| {});

    let broker = Broker::start();
    let example = Example::start("axum_rotate_tickets", broker.path());
    shows_that_old_tickets_are_refused(example, |example| {
        example.expect("waiting for a restore, or for `sysgenid trigger`");
        assert_eq!(counts(&broker).outdated, 0);
        broker.trigger();
    });
}

/// `change` is called where the example waits for one.
fn shows_that_requests_are_refused(example: Example, change: impl FnOnce(&Example)) {
    const REFUSED: &str = "HTTP/1.1 503 Service Unavailable, retry-after: 1";
    assert_eq!(example.expect("not ready: "), REFUSED);
    let first = example.expect("ready: HTTP/1.1 200 OK, token ");
    change(&example);
    assert_eq!(example.expect("changed: "), REFUSED);
    let second = example.expect("acknowledged: HTTP/1.1 200 OK, token ");
    assert_ne!(first, second);
    example.succeeds();
}

#[test]
fn refuse_while_outdated_serves_again_when_it_has_acknowledged() {
    shows_that_requests_are_refused(Example::start_alone("refuse_while_outdated"), |_| {});

    let broker = Broker::start();
    let example = Example::start("refuse_while_outdated", broker.path());
    shows_that_requests_are_refused(example, |example| {
        example.expect("waiting for a restore, or for `sysgenid trigger`");
        broker.trigger();
    });
}

/// `change` is called where the example waits for one.
fn shows_that_a_pool_is_restarted(example: Example, change: impl FnOnce(&Example)) {
    let pid = example.child.id();
    let sessions = |when| {
        let session = |number| example.expect(&format!("{when}: worker {number}, session "));
        (0..4).map(session).collect::<Vec<_>>()
    };
    let mut all = sessions("started");
    change(&example);
    let missing = example.line();
    assert!(
        missing.starts_with("missing: restart_worker"),
        "{missing:?}"
    );
    assert!(
        missing.ends_with(&format!("(pid {pid}), of 0")),
        "{missing:?}"
    );
    example.expect("worker 3 is replaced");
    all.extend(sessions("resumed"));
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 8, "{all:?}");
    example.succeeds();
}

#[test]
fn restart_worker_pool_replaces_the_one_that_is_stuck() {
    shows_that_a_pool_is_restarted(Example::start_alone("restart_worker_pool"), |_| {});

    let broker = Broker::start();
    let example = Example::start("restart_worker_pool", broker.path());
    shows_that_a_pool_is_restarted(example, |example| {
        example.expect("waiting for a restore, or for `sysgenid trigger`");
        assert_eq!(counts(&broker).tracked, 4);
        broker.trigger();
    });
}

#[test]
fn without_a_source_every_example_names_the_missing_one() {
    for name in [
        "watchdog_thread",
        "poll_event_loop",
        "answer_requests",
        "guard_cached_secret",
        "share_guarded_key",
        "make_unique_ids",
        "orchestrate_restore",
        "axum_rotate_tickets",
        "refuse_while_outdated",
        "restart_worker_pool",
    ] {
        let example = Example::start(name, Path::new("/nonexistent/sysgenid"));
        let (status, stderr) = example.end();
        assert_eq!(status.code(), Some(1), "{name}");
        assert!(stderr.contains("/nonexistent/sysgenid"), "{name}: {stderr}");
    }
}

/// The files that a reader opens. Those of a service have more to do, and are several if need be.
#[test]
fn an_example_is_short() {
    let mut sources = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_owned();
            if path.is_dir() && name != "src" && name != "tests" {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    for path in &sources {
        let text = std::fs::read_to_string(path).unwrap();
        let code = text
            .lines()
            .skip_while(|line| !line.starts_with("use "))
            .count();
        let is_service = path.parent() != Some(root)
            || ["async fn", "fn serve"].iter().any(|it| text.contains(it));
        let most = if is_service { 120 } else { 50 };
        assert!(code <= most, "{}: {code} lines", path.display());
    }
    assert!(sources.len() > 10, "{sources:?}");
}
