// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The service of `examples/survive_restores.rs` through all that may happen to it, in a process of its
//! own: no source, one that appears, a restore, a restart of the broker, a fork.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

#[path = "common/child.rs"]
mod child;
#[path = "../../examples/survive_restores.rs"]
mod service;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use child::in_child;
use sysgenid::{Orchestrator, SOURCE_VARIABLE, Source};

const PATIENCE: Duration = Duration::from_secs(30);

/// What a client of a running service sees.
struct Client(BufReader<UnixStream>);

impl Client {
    /// Starts a service in this process.
    fn start() -> Self {
        let (client, server) = UnixStream::pair().unwrap();
        let requests = BufReader::new(server.try_clone().unwrap());
        thread::spawn(move || service::serve(requests, server));
        Self(BufReader::new(client))
    }

    /// The answer to one request.
    fn ask(&mut self) -> String {
        self.0.get_mut().write_all(b"?\n").unwrap();
        let mut answer = String::new();
        self.0.read_line(&mut answer).unwrap();
        answer
    }

    /// The first answer that is not a refusal, and the two numbers in it.
    fn answer(&mut self) -> [String; 2] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask();
            let words: Vec<_> = answer.split_whitespace().collect();
            if let ["token", token, "session", session] = *words {
                return [token.into(), session.into()];
            }
            assert_eq!(answer, "try again\n");
            assert!(Instant::now() < deadline, "it opens again");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Both numbers are others than before.
    fn answers_anew(&mut self, before: &mut [String; 2]) {
        let now = self.answer();
        assert!(
            now.iter().zip(&*before).all(|(now, before)| now != before),
            "{now:?}"
        );
        *before = now;
    }
}

#[test]
fn a_service_survives_all_that_happens_to_it() {
    const NAME: &str = "a_service_survives_all_that_happens_to_it";
    const CHILD: &str = "SYSGENID_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let directory = std::env::var_os(SOURCE_VARIABLE).unwrap();
        return survive(Path::new(&directory));
    }
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture"])
        .env(SOURCE_VARIABLE, directory.path())
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn survive(directory: &Path) {
    // No source.
    let mut client = Client::start();
    let mut seen = client.answer();
    assert_eq!(client.answer(), seen);
    assert!(!sysgenid::protection().shows_restores());

    // One appears, which counts as a change: nothing tells what happened before.
    let broker = sysgenid_broker::spawn(directory).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while client.answer() == seen {
        assert!(Instant::now() < deadline, "the source is noticed");
        thread::sleep(Duration::from_millis(10));
    }
    seen = client.answer();
    assert_eq!(client.answer(), seen);

    // A restore. The very next answer is new.
    let source = Source::at(directory).unwrap();
    source.trigger(PATIENCE).unwrap();
    client.answers_anew(&mut seen);
    settles(directory);
    assert_eq!(client.answer(), seen);

    // A restart of the broker is not a change, and one that comes after it is seen and acknowledged.
    drop(broker);
    assert_eq!(client.answer(), seen);
    let _broker = sysgenid_broker::spawn(directory).unwrap();
    assert_eq!(client.answer(), seen);
    source.trigger(PATIENCE).unwrap();
    client.answers_anew(&mut seen);
    settles(directory);

    // A fork. The child has nothing in common with its parent, and sees restores itself.
    let survived = in_child(|| {
        let mut own = Client::start();
        let mut seen = seen.clone();
        own.answers_anew(&mut seen);
        source.trigger(PATIENCE).unwrap();
        own.answers_anew(&mut seen);
    });
    assert!(survived, "in the child");
    client.answers_anew(&mut seen);
    settles(directory);
}

/// The service's watcher, which is required, has acknowledged.
fn settles(directory: &Path) {
    let mut options = Orchestrator::options();
    options = options.require_watchers(1);
    let orchestrator = options.open_at(directory).unwrap();
    orchestrator.wait_for_watchers(PATIENCE).unwrap();
}
