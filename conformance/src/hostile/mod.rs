// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What hostile clients do to the userspace driver.
//!
//! The broker is a separate process, so that it can hang, and has a limit of 256 file descriptors.
//! The broker, the attackers and an honest program run as three users. While the attack is on, the
//! owner's trigger is answered within two seconds, and the honest program opens a watcher and sees
//! the change. When the attack is over, `SIGTERM` ends the broker, and another one serves the
//! directory.
//!
//! In other cases the broker itself stops or is killed, and its clients are honest.
//!
//! An attack may leave the broker in a system call that no signal ends. The end of the attacker
//! frees it, so a case that fails ends its attackers first.

mod attack;
mod client;
mod exhaustion;
mod helper;
mod names;
mod namespaces;
mod part;
mod protocol;
mod restart;
mod scene;
mod sent;
mod stopped;

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::geteuid;

pub use self::helper::Play;
use crate::suite::Case;

/// How long a case may take: more than any deadline within it.
pub static LIMIT: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(60)));

/// How many times longer than elsewhere the suite waits, for a machine that is slow.
const PATIENCE_VARIABLE: &str = "SYSGENID_TEST_PATIENCE";

const BROKER: u32 = 65_531;
const HONEST: u32 = 65_532;
const ATTACKER: u32 = 65_533;

/// Returns a deadline of the suite, which is longer on a slow machine.
fn widened(deadline: Duration) -> Duration {
    deadline * *SLOWNESS
}

/// How many times slower than elsewhere the machine may be.
static SLOWNESS: LazyLock<u32> = LazyLock::new(|| match std::env::var(PATIENCE_VARIABLE) {
    Ok(factor) => factor.parse().expect("the patience is a number"),
    Err(_) => 1,
});

/// The users whose processes a case starts.
#[derive(Clone, Debug)]
pub struct Subject {
    is_root: bool,
}

impl Subject {
    /// Three users if this process is root, else its own alone.
    #[must_use]
    pub fn new() -> Self {
        Self {
            is_root: geteuid().is_root(),
        }
    }

    /// Whether the attackers are of another user than the broker.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.is_root
    }

    fn broker(&self) -> Option<u32> {
        self.is_root.then_some(BROKER)
    }

    fn honest(&self) -> Option<u32> {
        self.is_root.then_some(HONEST)
    }

    fn attacker(&self) -> Option<u32> {
        self.is_root.then_some(ATTACKER)
    }
}

impl Default for Subject {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs this program again as root of a user namespace that has several users; `None` if there can
/// be none, or this process is root already.
#[must_use]
pub fn run_in_user_namespace() -> Option<ExitStatus> {
    if geteuid().is_root() {
        return None;
    }
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--map-auto"]);
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
        command
    };
    let probe = unshare()
        .args(["sh", "-c"])
        .arg(format!(
            "file=$(mktemp) && trap 'rm \"$file\"' EXIT && chown {ATTACKER} \"$file\""
        ))
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let again = unshare()
        .arg(program)
        .args(std::env::args_os().skip(1))
        .status();
    Some(again.unwrap_or(ExitStatus::from_raw(1 << 8)))
}

/// The cases that mean nothing if the attacker is the broker's own user.
pub const OF_SEVERAL_USERS: [&str; 6] = [
    "silent_connections_use_up_the_descriptors",
    "unread_descriptors",
    "root_outside_the_brokers_user_namespace",
    "a_broker_in_another_pid_namespace",
    "a_reused_pid_is_not_accused",
    "ten_attackers_do_not_hide_the_honest_straggler",
];

/// All cases.
pub fn cases() -> impl Iterator<Item = &'static Case<Subject>> {
    [
        sent::CASES,
        exhaustion::CASES,
        namespaces::CASES,
        protocol::CASES,
        names::CASES,
        stopped::CASES,
        restart::CASES,
    ]
    .into_iter()
    .flatten()
}
