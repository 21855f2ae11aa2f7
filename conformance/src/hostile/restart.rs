// SPDX-License-Identifier: Apache-2.0 OR MIT
//! All clients of a broker that is killed come back to the next one, and miss no change.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Signal, getrlimit};
use sysgenid::{Source, WatcherCounts};

use super::Subject;
use super::helper::{Helper, Play};
use super::part::Part;
use super::scene::{PATIENCE, Scene, Setting};
use crate::cases;

cases! { Subject;
    restart_under_many_watchers,
    restart_with_few_descriptors,
}

/// The most watchers.
const WATCHERS: u64 = 10_000;
/// What the broker has open beside its watchers, and a client beside its own.
const OTHERS: u64 = 100;
/// What a watcher takes of a client's descriptors: the connection and the readiness.
const DESCRIPTORS: u64 = 2;

/// How long the clients try in vain.
const AWAY: Duration = Duration::from_millis(300);
/// How long all of them together may take to come back.
const BACK: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);

/// As many watchers as descriptors allow. Of the broker's a user may have half, and 256 threads come
/// back at once.
fn restart_under_many_watchers(subject: &Subject) {
    const CLIENTS: u64 = 4;
    let limit = getrlimit(Resource::Nofile);
    let files = limit.maximum.unwrap_or(2 * WATCHERS + OTHERS);
    let of_broker = files.saturating_sub(OTHERS) / 2;
    let of_clients = files.saturating_sub(OTHERS) / DESCRIPTORS * CLIENTS;
    let setting = Setting {
        files,
        ..Setting::default()
    };
    let mut group = Group::start(
        subject,
        setting,
        CLIENTS,
        WATCHERS.min(of_broker).min(of_clients) / CLIENTS,
        64,
    );
    group.restart_while_stopped();
    group.restart();
    group.finish();
}

/// At the usual 256 descriptors, only eight watchers of a user may have their own to read at once.
/// Here a hundred threads of one ask for them, and none of them is refused for long.
fn restart_with_few_descriptors(subject: &Subject) {
    let mut group = Group::start(subject, Setting::default(), 2, 50, 50);
    group.restart_while_stopped();
    group.restart();
    group.finish();
}

/// A broker and the processes that come back to it.
struct Group {
    scene: Scene,
    clients: Vec<Helper>,
    watchers: u64,
}

impl Group {
    fn start(
        subject: &Subject,
        setting: Setting,
        clients: u64,
        watchers: u64,
        threads: u64,
    ) -> Self {
        let scene = Scene::start_with(subject, setting);
        let play = Play::new(Part::Return, scene.path())
            .user(subject.honest())
            .files(watchers * DESCRIPTORS + OTHERS);
        let mut clients: Vec<_> = (0..clients).map(|_| Helper::start(&play)).collect();
        for client in &mut clients {
            expect(client, "on");
            client.go_on(format_args!("{watchers} {threads}"));
        }
        for client in &mut clients {
            expect(client, &watchers.to_string());
        }
        let group = Self {
            watchers: watchers * clients.len() as u64,
            scene,
            clients,
        };
        let counts = group.counts();
        assert_eq!(u64::from(counts.tracked), group.watchers, "{counts:?}");
        group
    }

    /// All clients have tried in vain, and come back at the same moment, after the change.
    fn restart_while_stopped(&mut self) {
        self.lose();
        thread::sleep(AWAY);
        self.signal(Signal::STOP);
        self.scene.start_again();
        let (generation, _) = self.scene.trigger();
        let start = Instant::now();
        self.signal(Signal::CONT);
        self.expect_back(start, generation, "that were stopped");
    }

    /// They come back as they find the broker, some of them before the change.
    fn restart(&mut self) {
        self.lose();
        let start = Instant::now();
        self.scene.start_again();
        let (generation, took) = self.scene.trigger();
        println!("# the owner was answered within {took:?}");
        self.expect_back(start, generation, "that went on trying");
    }

    fn lose(&mut self) {
        for client in &mut self.clients {
            client.go_on("");
        }
        self.scene.kill();
    }

    fn signal(&self, signal: Signal) {
        for client in &self.clients {
            client.signal(signal);
        }
    }

    fn expect_back(&mut self, start: Instant, generation: u32, which: &str) {
        loop {
            let counts = self.counts();
            if u64::from(counts.tracked) == self.watchers {
                break;
            }
            let took = start.elapsed();
            if took > BACK {
                let said = self.clients.iter_mut().map(|client| client.line(LOOK));
                let said: Vec<_> = said.filter_map(Result::ok).collect();
                panic!("after {took:?} not all are back: {counts:?}; the clients: {said:?}");
            }
            thread::sleep(LOOK);
        }
        let took = start.elapsed();
        let each = self.watchers / self.clients.len() as u64;
        for client in &mut self.clients {
            expect(client, &format!("{each} acknowledged {{{generation}}}"));
        }
        let counts = self.counts();
        assert_eq!(
            (u64::from(counts.total), counts.outdated),
            (self.watchers, 0),
            "{counts:?}"
        );
        println!(
            "# {} watchers {which}: all were back after {took:?}",
            self.watchers
        );
    }

    fn counts(&self) -> WatcherCounts {
        let source = Source::at(self.scene.path()).expect("the source is there");
        let status = source.status(*PATIENCE).expect("the broker answers");
        status.watchers.expect("a broker tells")
    }

    fn finish(self) {
        self.scene.expect_service();
        let Self { scene, clients, .. } = self;
        drop(clients);
        scene.finish([]);
    }
}

/// Expects this line of a client, which may take as long as all of them together.
fn expect(client: &mut Helper, line: &str) {
    let said = client.line(BACK);
    assert_eq!(said.as_deref(), Ok(line), "a client");
}
