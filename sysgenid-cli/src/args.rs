// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use sysgenid::Deadline;

use crate::demo::Member;

const MORE: &str = "\
A source is found in $SYSGENID_SOURCE, else it is the first that exists of
  /dev/sysgenid, /run/sysgenid, $XDG_RUNTIME_DIR/sysgenid
A counter of the hypervisor's (/dev/vmclockN, /dev/vmgenid) has a `status` and nothing else.

Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage
  3  no source: nothing there, no kernel driver and no userspace driver
  4  permission denied
  5  timed out; for `wait`: watchers have not acknowledged
  6  the source is not one, is broken, or cannot do this
  7  the userspace driver is not running, has ended, or does not answer
  8  fewer tracked watchers than --min-watchers";

/// Notice that this system was restored or cloned from a snapshot, and know when all have handled
/// it.
#[derive(Debug, Parser)]
#[command(name = "sysgenid", version, after_help = MORE, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// A device, a userspace driver's directory, or a page file [default: $SYSGENID_SOURCE, or found]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) source: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: driver, clients and a change, in a temporary directory, without privileges
    Demo(JsonArgs),
    /// Run the userspace driver, until it is interrupted
    Serve(ServeArgs),
    /// Show the source, the generation and the number of watchers
    Status(JsonArgs),
    /// Print each change of the generation, until it is interrupted
    Watch(WatchArgs),
    /// Change the generation
    Trigger(TriggerArgs),
    /// Wait until every tracked watcher has acknowledged the generation
    Wait(WaitArgs),
    #[command(hide = true)]
    DemoWorker(WorkerArgs),
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON, one object per line
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Directory to serve; created if its parent exists [default: /run/sysgenid for root, else
    /// $XDG_RUNTIME_DIR/sysgenid]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// End when standard input ends, too: for a parent process that must not leave it behind
    #[arg(long)]
    pub(crate) until_eof: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// End after this many changes [default: go on]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// End with code 5 if it takes longer than this in all, such as 500ms, 5s, 2m
    #[arg(long, value_name = "TIME", default_value = "never")]
    pub(crate) timeout: Timeout,

    /// Be waited for by `wait` and by orchestrators
    #[arg(long)]
    pub(crate) tracked: bool,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct TriggerArgs {
    /// The new generation is at least this number
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) min: u32,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// End with code 8 if fewer tracked watchers than this have acknowledged; 0 asks for none
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) min_watchers: u32,

    /// End with code 5, and name the stragglers, after this time, such as 500ms, 5s, 2m, never
    #[arg(long, value_name = "TIME", default_value = "5s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    pub(crate) role: Member,
}

/// How long to wait; `None` is for ever, by the caller's choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timeout(Option<Duration>);

impl Timeout {
    /// From now on.
    pub(crate) fn deadline(self) -> Deadline {
        self.0.map_or(Deadline::NEVER, Deadline::after)
    }
}

impl FromStr for Timeout {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WANTED: &str = "a time is a number and ms, s, m or h, or `never`";
        if text == "never" {
            return Ok(Self(None));
        }
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = match text.get(digits.len()..) {
            Some("ms") => 0.001,
            Some("s" | "") => 1.0,
            Some("m") => 60.0,
            Some("h") => 3600.0,
            _ => return Err(WANTED),
        };
        let plain = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number: f64 = digits.parse().ok().filter(|_| plain).ok_or(WANTED)?;
        let duration = Duration::try_from_secs_f64(number * unit);
        Ok(Self(Some(duration.map_err(|_| "too long; say `never`")?)))
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(duration) => write!(f, "{duration:?}"),
            None => f.write_str("never"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_are_read() {
        let read = |text: &str| text.parse::<Timeout>().map(|timeout| timeout.0);
        assert_eq!(read("250ms"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(read("5s"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(read("5"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(read("1.5m"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(read("2h"), Ok(Some(Duration::from_secs(7200))));
        assert_eq!(read("0s"), Ok(Some(Duration::ZERO)));
        assert_eq!(read("never"), Ok(None));
        for wrong in [
            "", "s", "-1s", "1e3s", "nan", "inf", "5 s", "5d", "ms5", "1.2.3s",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("99999999999999999999h").is_err(), "overflow");
    }
}
