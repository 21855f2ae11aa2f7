// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The watchers that hold others up, and how they are shown.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;

use sysgenid_sys::wire;

use crate::base::Generation;
use crate::base::Printable;

/// How many users a summary shows.
const USERS: usize = 10;
/// How many programs of each.
const PROGRAMS: usize = 3;
/// How many processes of each.
const PROCESSES: usize = 3;

/// Why a process has no number.
const OUTSIDE: &str = "outside the broker's pid namespace or ended";

/// A tracked watcher that has not acknowledged the current generation.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Straggler {
    /// The process that opened the watcher, in the broker's pid namespace, or that has it open, in
    /// the caller's. `None` if the process that opened it is outside the broker's pid namespace, or
    /// has ended and left the watcher to a child.
    pub pid: Option<u32>,
    /// The effective user of that process; `None` if the source does not tell.
    pub uid: Option<u32>,
    /// The name of that process's command; empty if it could not be read.
    ///
    /// A process chooses its own name. Here it is safe to print: it is escaped as
    /// [`Printable`] does it.
    pub command: String,
    /// The generation that it has acknowledged.
    pub acknowledged: Generation,
}

impl Straggler {
    /// Makes a name of what the kernel calls the command.
    pub(crate) fn name(command: &[u8]) -> String {
        Printable::new(OsStr::from_bytes(command)).to_string()
    }

    pub(crate) fn from_wire(entry: &wire::Straggler) -> Self {
        let command = entry
            .command
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        Self {
            pid: Some(entry.pid).filter(|pid| *pid != 0),
            uid: Some(entry.uid),
            command: Self::name(command),
            acknowledged: Generation::from(entry.acknowledged),
        }
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "{} (pid {pid})", Program(&self.command)),
            None => match self.uid {
                Some(uid) => write!(f, "a process of user {uid}, {OUTSIDE}"),
                None => write!(f, "a process {OUTSIDE}"),
            },
        }
    }
}

impl fmt::Debug for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Straggler")
            .field("pid", &self.pid)
            .field("uid", &self.uid)
            .field("command", &self.command)
            .field("acknowledged", &self.acknowledged)
            .finish()
    }
}

/// Shows many stragglers in one line, grouped by user and program.
///
/// Every user is shown, up to ten, however many watchers another user has: those with the lowest
/// numbers first, and of each the three programs with the most watchers. The rest is counted.
///
/// ```
/// use sysgenid::{Orchestrator, StragglerSummary, Watcher};
///
/// let broker = sysgenid_broker::testing::Broker::start()?;
/// let _service = Watcher::open_at(broker.path())?;
/// let orchestrator = Orchestrator::open_at(broker.path())?;
/// orchestrator.trigger()?;
///
/// let stragglers = orchestrator.stragglers()?;
/// // For example: uid 0: sshd (pid 77); uid 1000: worker ×12 (pid 411, 412, 413, …)
/// println!("still waiting for {}", StragglerSummary::of(&stragglers));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct StragglerSummary<'a>(&'a [Straggler]);

impl<'a> StragglerSummary<'a> {
    /// Summarizes these stragglers.
    #[must_use]
    pub fn of(stragglers: &'a [Straggler]) -> Self {
        Self(stragglers)
    }
}

impl fmt::Display for StragglerSummary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none any more");
        }
        // Unknown users last; low numbers, which are the system's, before those that a user may
        // have by the thousand in a user namespace.
        let mut users = BTreeMap::<(bool, Option<u32>), Programs<'_>>::new();
        for straggler in self.0 {
            let programs = users
                .entry((straggler.uid.is_none(), straggler.uid))
                .or_default();
            programs
                .entry(&straggler.command)
                .or_default()
                .push(straggler);
        }
        let are_told = self.0.iter().any(|straggler| straggler.uid.is_some());
        for (index, ((_, uid), programs)) in users.iter().take(USERS).enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            match uid {
                Some(uid) => write!(f, "uid {uid}: ")?,
                None if are_told => f.write_str("unknown user: ")?,
                None => {}
            }
            write_programs(f, programs)?;
        }
        let rest = || users.values().skip(USERS).flat_map(BTreeMap::values);
        match users.len().saturating_sub(USERS) {
            0 => Ok(()),
            more => write!(
                f,
                "; and {more} more {} with {} in all",
                plural(more, "user"),
                watchers(rest().map(Vec::len).sum())
            ),
        }
    }
}

/// The stragglers of one user, by the name of their program.
type Programs<'a> = BTreeMap<&'a str, Vec<&'a Straggler>>;

fn write_programs(f: &mut fmt::Formatter<'_>, programs: &Programs<'_>) -> fmt::Result {
    let mut programs: Vec<_> = programs.iter().collect();
    programs.sort_by_key(|(_, stragglers)| std::cmp::Reverse(stragglers.len()));
    for (index, (program, stragglers)) in programs.iter().take(PROGRAMS).enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        if program.is_empty() && stragglers.iter().all(|one| one.pid.is_none()) {
            f.write_str(OUTSIDE)?;
        } else {
            write!(f, "{}", Program(program))?;
        }
        if stragglers.len() > 1 {
            write!(f, " ×{}", stragglers.len())?;
        }
        let mut pids: Vec<_> = stragglers.iter().filter_map(|one| one.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        for (index, pid) in pids.iter().take(PROCESSES).enumerate() {
            write!(f, "{}{pid}", if index == 0 { " (pid " } else { ", " })?;
        }
        match pids.len() {
            0 => {}
            count if count > PROCESSES => f.write_str(", …)")?,
            _ => f.write_str(")")?,
        }
    }
    match programs.len().saturating_sub(PROGRAMS) {
        0 => Ok(()),
        more => {
            let rest = programs.iter().skip(PROGRAMS).map(|(_, all)| all.len());
            write!(
                f,
                ", and {more} more {} with {} in all",
                plural(more, "program"),
                watchers(rest.sum())
            )
        }
    }
}

fn plural(count: usize, one: &str) -> String {
    format!("{one}{}", if count == 1 { "" } else { "s" })
}

fn watchers(count: usize) -> String {
    format!("{count} {}", plural(count, "watcher"))
}

/// The name of a program among other text: quoted if it could be taken for that.
struct Program<'a>(&'a str);

impl fmt::Display for Program<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = |c: char| c.is_alphanumeric() || "._-+/@\\".contains(c);
        if self.0.is_empty() {
            f.write_str("unnamed")
        } else if self.0.chars().all(is_plain) {
            f.write_str(self.0)
        } else {
            // A backslash in the name is part of an escape already.
            write!(f, "\"{}\"", self.0.replace('"', "\\\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn straggler(uid: Option<u32>, command: &str, pid: u32) -> Straggler {
        Straggler {
            pid: Some(pid).filter(|pid| *pid != 0),
            uid,
            command: Straggler::name(command.as_bytes()),
            acknowledged: Generation::new(0),
        }
    }

    fn summary(stragglers: &[Straggler]) -> String {
        StragglerSummary::of(stragglers).to_string()
    }

    #[test]
    fn they_are_grouped_by_user_and_program() {
        let mut all: Vec<_> = (411..423)
            .map(|pid| straggler(Some(1000), "worker", pid))
            .collect();
        all.push(straggler(Some(0), "sshd", 77));
        all.push(straggler(Some(1000), "agent", 9));
        assert_eq!(
            summary(&all),
            "uid 0: sshd (pid 77); uid 1000: worker ×12 (pid 411, 412, 413, …), agent (pid 9)"
        );
        assert_eq!(summary(&[]), "none any more");
    }

    #[test]
    fn a_source_that_tells_of_no_users_has_them_left_out() {
        let one = straggler(None, "sysgenid", 5);
        assert_eq!(summary(std::slice::from_ref(&one)), "sysgenid (pid 5)");
        assert_eq!(one.to_string(), "sysgenid (pid 5)");
        let other = straggler(Some(7), "", 6);
        assert_eq!(
            summary(&[one, other]),
            "uid 7: unnamed (pid 6); unknown user: sysgenid (pid 5)"
        );
    }

    #[test]
    fn a_process_without_a_number_is_said_to_be_outside() {
        let outside = straggler(Some(7), "", 0);
        let text = outside.to_string();
        assert_eq!(text, format!("a process of user 7, {OUTSIDE}"));
        assert!(text.contains("pid namespace"), "{text}");
        let twice = [outside.clone(), outside];
        assert_eq!(summary(&twice), format!("uid 7: {OUTSIDE} ×2"));
    }

    #[test]
    fn no_user_hides_another() {
        let mut all: Vec<_> = (0..1000)
            .map(|pid| straggler(Some(1000), &format!("evil{}", pid % 7), 5000 + pid))
            .collect();
        all.push(straggler(Some(1001), "honest", 42));
        let text = summary(&all);
        assert!(text.ends_with("; uid 1001: honest (pid 42)"), "{text}");
        assert!(
            text.contains(", and 4 more programs with 571 watchers in all;"),
            "{text}"
        );
        assert!(text.len() < 300, "{text}");

        all.extend((0..5000).map(|uid| straggler(Some(100_000 + uid), "evil", 9000 + uid)));
        let text = summary(&all);
        assert!(text.contains("; uid 1001: honest (pid 42); "), "{text}");
        let end = "; and 4992 more users with 4992 watchers in all";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_name_is_not_taken_for_what_is_around_it() {
        let liar = straggler(Some(1000), "x; uid 0: sshd", 5);
        assert_eq!(summary(&[liar]), "uid 1000: \"x; uid 0: sshd\" (pid 5)");
        let liar = straggler(Some(1000), "a\" (pid 1), \"b", 5);
        assert_eq!(liar.to_string(), r#""a\" (pid 1), \"b" (pid 5)"#);
        let liar = straggler(Some(1000), "a\x1b[2J\n", 5);
        assert_eq!(liar.command, r"a\x1b[2J\n");
        assert_eq!(liar.to_string(), r#""a\x1b[2J\n" (pid 5)"#);
    }
}
