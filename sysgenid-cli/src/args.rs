// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use sysgenid_broker::follow::Choice;

use crate::demo::Member;
use crate::time::Timeout;

const MORE: &str = "\
A source is found in $SYSGENID_SOURCE, else it is the first that exists of
  /dev/sysgenid, /run/sysgenid, $XDG_RUNTIME_DIR/sysgenid
A counter of the hypervisor's (/dev/vmclockN, /dev/vmgenid) can be asked for its
`status` and by `get`, and `watch --reconnect` looks at it. It takes no triggers.

A TIME is one or more numbers, each with its unit, such as 500ms, 5s, 1m 30s or
2h; or `never`.

Examples:
  sysgenid watch --exec 'systemctl reload nginx'
  sysgenid trigger --wait=30s
  sysgenid run -- cargo test

Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage
  3  no source: nothing there, no kernel driver and no userspace driver
  4  permission denied
  5  timed out
  6  the source is not one, is broken, or cannot do this
  7  the userspace driver is not running, has ended, or does not answer
  8  fewer tracked watchers than --min-watchers
  9  watchers have not acknowledged in time
  10  the kernel's entropy was not renewed";

/// Notice that this system was restored or cloned from a snapshot, and know when all have handled
/// it.
#[derive(Debug, Parser)]
#[command(name = "sysgenid", version, after_help = MORE, max_term_width = 80)]
pub(crate) struct Cli {
    /// A device, a userspace driver's directory, or a page file [default:
    /// $SYSGENID_SOURCE, or found]
    #[arg(short, long, global = true, value_name = "PATH")]
    pub(crate) source: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// See it work: driver, clients and a change, without privileges
    Demo(JsonArgs),
    /// Print the generation, and nothing else
    Get(JsonArgs),
    /// Run a command with a userspace driver of its own, for development and tests
    Run(RunArgs),
    /// Run the userspace driver, until it is interrupted
    Serve(ServeArgs),
    /// Show the source, the generation and the number of watchers
    Status(JsonArgs),
    /// Print each change of the generation, until it is interrupted
    Watch(WatchArgs),
    /// Change the generation
    Trigger(TriggerArgs),
    /// Renew the kernel's entropy with bytes that no other clone has
    Reseed(ReseedArgs),
    /// Wait until every tracked watcher has acknowledged the generation
    Wait(WaitArgs),
    /// Bring programs to rest before a snapshot, by their hooks
    Quiesce(QuiesceArgs),
    /// Resume the programs that were brought to rest
    Resume(ResumeArgs),
    #[command(hide = true)]
    DemoWorker(WorkerArgs),
    /// Write the man pages and the completions for shells into a directory
    #[command(hide = true)]
    Generate(GenerateArgs),
}

impl Command {
    /// Whether it is to print JSON.
    pub(crate) fn is_json(&self) -> bool {
        match self {
            Self::Demo(format) | Self::Get(format) | Self::Status(format) => format.json,
            Self::Watch(args) => args.format.json,
            Self::Trigger(args) => args.format.json,
            Self::Reseed(args) => args.format.json,
            Self::Wait(args) => args.format.json,
            Self::Quiesce(args) => args.format.json,
            Self::Resume(args) => args.format.json,
            Self::Run(_) | Self::Serve(_) | Self::DemoWorker(_) | Self::Generate(_) => false,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct JsonArgs {
    /// Print JSON, one object per line; an error is one on standard error
    #[arg(short, long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Directory to serve; created if its parent exists [default: /run/sysgenid for root, else
    /// $XDG_RUNTIME_DIR/sysgenid]
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// What announces restores: `auto` (what works here), `none` (whoever restores runs `trigger`), or
    /// names with commas: kmsg, vmclock, vmgenid, gvisor
    #[arg(long, value_name = "NAMES", default_value = "auto")]
    pub(crate) follow: Choice,

    /// End when standard input ends, too: for a parent process that must not leave it behind
    #[arg(long)]
    pub(crate) until_eof: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The command and its arguments; it finds the driver in SYSGENID_SOURCE
    #[arg(value_name = "COMMAND", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Have a shell run this at each change. The change is acknowledged when it has
    /// succeeded, and otherwise it is run again. Implies --reconnect and --tracked
    #[arg(short, long, value_name = "COMMAND")]
    pub(crate) exec: Option<OsString>,

    /// Kill the command of --exec after this time, and run it again
    #[arg(long, value_name = "TIME", default_value = "never", requires = "exec")]
    pub(crate) exec_timeout: Timeout,

    /// Wait for a source that is not there, and for one that has ended
    #[arg(short, long)]
    pub(crate) reconnect: bool,

    /// End after this many changes [default: go on]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// End with code 5 if it takes longer than this in all
    #[arg(short, long, value_name = "TIME", default_value = "never")]
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

    /// Renew the kernel's entropy first, and change nothing if that fails
    #[arg(long)]
    pub(crate) reseed: bool,

    #[command(flatten)]
    pub(crate) entropy: EntropyArgs,

    /// Then wait as `wait` does, for 5 s or this time
    #[arg(
        short,
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "5s"
    )]
    pub(crate) wait: Option<Timeout>,

    /// With --wait: end with code 8 if fewer tracked watchers than this have
    /// acknowledged; 0 asks for none
    #[arg(long, value_name = "N", default_value_t = 1, requires = "wait")]
    pub(crate) min_watchers: u32,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ReseedArgs {
    #[command(flatten)]
    pub(crate) entropy: EntropyArgs,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EntropyArgs {
    /// Bytes from outside the snapshot, at least 32: a file, or `-` for standard
    /// input [default: the processor and /dev/hwrng]
    #[arg(long, value_name = "FILE")]
    pub(crate) entropy: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// End with code 8 if fewer tracked watchers than this have acknowledged; 0 asks
    /// for none
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) min_watchers: u32,

    /// End with code 9, and name the stragglers, after this time
    #[arg(short, long, value_name = "TIME", default_value = "5s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct QuiesceArgs {
    /// End with code 8, and resume all, if fewer programs than this run hooks; 0 asks
    /// for none
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) min_watchers: u32,

    /// End with code 9, name the stragglers, and resume all, after this time
    #[arg(short, long, value_name = "TIME", default_value = "5s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct ResumeArgs {
    /// End with code 9 after this time; programs are resumed nevertheless
    #[arg(short, long, value_name = "TIME", default_value = "5s")]
    pub(crate) timeout: Timeout,

    #[command(flatten)]
    pub(crate) format: JsonArgs,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Where to write them; created if its parent exists
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    pub(crate) role: Member,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    /// With two spaces at each side, a terminal of 80 columns shows each line as one.
    #[test]
    fn every_help_fits_80_columns() {
        let mut all = vec![Cli::command()];
        while let Some(mut command) = all.pop() {
            for help in [command.render_help(), command.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= 80, "{}: {line}", command.get_name());
                }
            }
            all.extend(command.get_subcommands().cloned());
        }
    }
}
