// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A broker in a separate process, and what must be true of it during and after an attack.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::Subject;
use super::client;
use super::helper::{Helper, Play};
use super::part::{How, Part, What};
use super::widened;

/// How long the broker may take to answer its owner. A second is what is wanted, and the rest for a
/// machine that has other work.
pub(super) static ANSWER: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(2)));

/// How long a process may take to start, or an honest program to see a change.
pub(super) static PATIENCE: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(10)));

/// How long a broker may take to end.
static END: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(4)));

/// Its limit of open files.
const FILES: u64 = 256;

/// How a broker is started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) files: u64,
    pub(super) pid_namespace: bool,
    pub(super) user_namespace: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            files: FILES,
            pid_namespace: false,
            user_namespace: false,
        }
    }
}

/// A broker that serves a new directory. It runs as a separate user without capabilities, as a
/// packaged service does; the case runs as root, which may trigger.
pub(super) struct Scene {
    // Before the directory: it is to end first.
    broker: Helper,
    directory: TempDir,
    subject: Subject,
    setting: Setting,
}

impl Scene {
    pub(super) fn start(subject: &Subject) -> Self {
        Self::start_with(subject, Setting::default())
    }

    pub(super) fn start_with(subject: &Subject, setting: Setting) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path();
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("it is ours");
        if let Some(uid) = subject.broker() {
            chown(path, Some(uid), Some(uid)).expect("root can give it away");
        }
        Self {
            broker: start_broker(subject, path, setting),
            directory,
            subject: subject.clone(),
            setting,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn broker(&self) -> &Helper {
        &self.broker
    }

    /// Starts an attacker, and returns when it is ready or its attack is on.
    pub(super) fn attack(&self, part: Part) -> Attacker {
        self.attack_as(Play::new(part, self.path()))
    }

    pub(super) fn attack_by_sending(&self, what: What, how: How) -> Attacker {
        self.attack_as(Play::new(Part::Send, self.path()).sending(what, how))
    }

    fn attack_as(&self, play: Play) -> Attacker {
        let mut helper = Helper::start(&play.user(self.subject.attacker()));
        let said = helper.line(*PATIENCE).expect("the attacker starts");
        assert!(!is_failure(&said), "the attacker: {said}");
        Attacker { helper, said }
    }

    /// Changes the generation as the owner, which must not take long, and returns how long it took.
    pub(super) fn trigger(&self) -> (u32, Duration) {
        self.try_trigger()
            .unwrap_or_else(|error| panic!("the owner cannot trigger: {error}"))
    }

    pub(super) fn try_trigger(&self) -> Result<(u32, Duration), String> {
        let start = Instant::now();
        // Root outside is not the owner of a broker in a user namespace.
        let triggered = match self.setting.user_namespace {
            false => client::trigger(self.path(), *ANSWER),
            true => self.trigger_as_the_brokers_user(),
        };
        match triggered {
            Ok(generation) => Ok((generation, start.elapsed())),
            Err(error) => {
                let state = self.broker.state();
                Err(format!("{error}; the broker is in state {state}"))
            }
        }
    }

    fn trigger_as_the_brokers_user(&self) -> Result<u32, String> {
        let play = Play::new(Part::Trigger, self.path()).user(self.subject.broker());
        let said = Helper::start(&play).line(*PATIENCE)?;
        said.parse().map_err(|_| said)
    }

    /// Starts an honest program of a third user, which must be able to open its watcher.
    pub(super) fn honest(&self) -> Honest {
        let mut honest = Honest::start(self.path(), self.subject.honest());
        let said = honest.line();
        assert_eq!(said, "on", "an honest program cannot open a watcher");
        honest
    }

    /// Expects that the owner is answered, and that an honest program opens a watcher and sees a
    /// change.
    pub(super) fn expect_service(&self) {
        self.trigger();
        self.honest().expect_told(self.trigger().0);
    }

    /// Kills the broker.
    pub(super) fn kill(&mut self) {
        self.broker.signal(Signal::KILL);
        let ended = self.broker.ends_within(*END);
        assert!(ended.is_some(), "the kernel ends the broker");
    }

    /// Starts another broker instead of one that was killed.
    pub(super) fn start_again(&mut self) {
        self.broker = start_broker(&self.subject, self.directory.path(), self.setting);
    }

    pub(super) fn stop(&self) {
        self.broker.signal(Signal::STOP);
    }

    pub(super) fn go_on(&self) {
        self.broker.signal(Signal::CONT);
    }

    /// Expects that `SIGTERM` frees the directory for another broker while the attack is on, even if
    /// the process of the first one cannot end yet. Expects that it ends after the attack.
    pub(super) fn finish_during(self, attackers: impl IntoIterator<Item = Attacker>) {
        let Self {
            mut broker,
            directory,
            subject,
            ..
        } = self;
        broker.signal(Signal::TERM);
        broker.signal(Signal::CONT);
        let end = Instant::now() + *END;
        let second = loop {
            let setting = Setting::default();
            match try_start_broker(&subject, directory.path(), setting) {
                Ok(second) => break second,
                Err(said) if Instant::now() > end => {
                    let state = broker.state();
                    panic!("no other broker can start: {said}; the first is in state {state}");
                }
                Err(_) => {}
            }
        };
        let has_ended = broker.ends_within(Duration::ZERO).is_some();
        println!("# another broker serves; the first one has ended: {has_ended}");
        let second = Self {
            broker: second,
            directory,
            subject,
            setting: Setting::default(),
        };
        second.expect_service();
        attackers.into_iter().for_each(drop);
        let ended = broker.ends_within(*END);
        let Some(status) = ended else {
            panic!("the broker does not end; it is in state {}", broker.state());
        };
        assert!(status.success(), "the broker ended with {status}");
        second.finish([]);
    }

    /// Ends the attackers. Expects that `SIGTERM` then ends the broker, and that another one serves
    /// the same directory.
    pub(super) fn finish(self, attackers: impl IntoIterator<Item = Attacker>) {
        attackers.into_iter().for_each(drop);
        let Self {
            mut broker,
            directory,
            subject,
            ..
        } = self;
        broker.signal(Signal::TERM);
        let ended = broker.ends_within(*END);
        let Some(status) = ended else {
            panic!("the broker does not end; it is in state {}", broker.state());
        };
        assert!(status.success(), "the broker ended with {status}");
        let second = Self {
            broker: start_broker(&subject, directory.path(), Setting::default()),
            directory,
            subject,
            setting: Setting::default(),
        };
        second.expect_service();
    }
}

fn start_broker(subject: &Subject, directory: &Path, setting: Setting) -> Helper {
    try_start_broker(subject, directory, setting)
        .unwrap_or_else(|said| panic!("the broker does not start: {said}"))
}

fn try_start_broker(
    subject: &Subject,
    directory: &Path,
    setting: Setting,
) -> Result<Helper, String> {
    let mut play = Play::new(Part::Serve, directory)
        .user(subject.broker())
        .files(setting.files);
    if setting.user_namespace {
        play = play.in_user_namespace();
    }
    let mut broker = match setting.pid_namespace {
        true => Helper::start_in_pid_namespace(&play).expect("it can be in a pid namespace"),
        false => Helper::start(&play),
    };
    match broker.line(*PATIENCE)? {
        said if said == "on" => Ok(broker),
        said => Err(said),
    }
}

/// An attacker at work. Dropping it ends it, and releases what it holds.
pub(super) struct Attacker {
    helper: Helper,
    /// The last line that it printed.
    said: String,
}

impl Attacker {
    pub(super) fn said(&self) -> &str {
        &self.said
    }

    pub(super) fn id(&self) -> u32 {
        self.helper.id()
    }

    /// Lets it take its next step, and returns when it has.
    pub(super) fn go_on(&mut self, word: impl std::fmt::Display) {
        self.let_on(word);
        self.arrives(*PATIENCE);
    }

    pub(super) fn let_on(&mut self, word: impl std::fmt::Display) {
        self.helper.go_on(word);
    }

    pub(super) fn arrives(&mut self, patience: Duration) {
        match self.helper.line(patience) {
            Ok(said) if !is_failure(&said) => self.said = said,
            other => panic!("the attacker: {other:?}"),
        }
    }

    /// Whether it has taken its step.
    pub(super) fn has_arrived(&mut self) -> bool {
        match self.helper.line(Duration::ZERO) {
            Ok(said) => {
                assert!(!is_failure(&said), "the attacker: {said}");
                self.said = said;
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn expect_end(&mut self) {
        let ended = self.helper.ends_within(*PATIENCE);
        assert!(ended.is_some(), "the attacker ends");
    }
}

/// An honest program.
pub(super) struct Honest(Helper);

impl Honest {
    pub(super) fn start(directory: &Path, uid: Option<u32>) -> Self {
        Self(Helper::start(&Play::new(Part::Honest, directory).user(uid)))
    }

    /// The next line that it prints.
    pub(super) fn line(&mut self) -> String {
        self.0.line(*PATIENCE).unwrap_or_else(|error| error)
    }

    pub(super) fn expect_told(&mut self, generation: u32) {
        let told = format!("told {generation}");
        assert_eq!(
            self.line(),
            told,
            "an honest program does not see the change"
        );
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }
}

fn is_failure(said: &str) -> bool {
    said.starts_with("failed: ") || said.starts_with("cannot start: ")
}
