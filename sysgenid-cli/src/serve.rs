// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid serve`: the userspace driver.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{self, PathBuf};

use rustix::fs::Mode;
use rustix::process::umask;
use signal_hook::low_level::emulate_default_handler;
use sysgenid::{Printable, Probe, SOURCE_VARIABLE, Source};
use sysgenid_agent::entropy::{self, Secret};
use sysgenid_broker::follow::{Follow, Report, renounce_privileges};
use sysgenid_broker::{Server, Stopper, usual_directory};

use crate::args::ServeArgs;
use crate::eof::on_end_of_input;
use crate::failure::Failure;
use crate::signals::{self, Caught};
use crate::speech::{Speech, To, Voice};
use crate::supervisor;

/// What the driver is built for.
const WANTED_WATCHERS: u64 = 10_000;

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let directory = match &args.dir {
        Some(directory) => directory.clone(),
        None => default_directory()?,
    };
    // Before the directory is taken, so that a signal never leaves its sockets behind.
    let signals = Caught::new(&signals::ending())?;
    // So that the socket for watchers never has a narrower mode: a client of another user that comes
    // back at the wrong moment would take that for a lack of permission. The broker gives each file
    // that it creates an explicit mode.
    umask(Mode::empty());
    let mut server = Server::bind(&directory)?;
    let report = server.follow(follow(args))?;
    // Before other threads are started: each has its own. Where a sandbox forbids it, it stays.
    let _ = renounce_privileges();
    stop_on_signal(signals, server.stopper())?;
    if args.until_eof {
        let stopper = server.stopper();
        on_end_of_input(move || stopper.stop())?;
    }
    // Clients depend on the driver, whether or not its output is read.
    let speech = Speech::new();
    announce(&server, &report, speech.voice())?;
    let voice = speech.voice().clone();
    server.on_incident(move |incident| {
        voice.say(To::Stderr, format!("sysgenid: warning: {incident}"));
    });
    let served = server.run();
    speech.finish();
    Ok(served?)
}

/// What is followed. The driver runs the entropy barrier itself if it has the privilege for it.
fn follow(args: &ServeArgs) -> Follow {
    let follow = Follow::new(args.follow);
    if !entropy::is_permitted() {
        return follow;
    }
    follow.barrier(|| {
        let reseeded = Secret::of_this_machine().and_then(entropy::reseed);
        reseeded.map(drop).map_err(|error| error.to_string())
    })
}

fn default_directory() -> Result<PathBuf, Failure> {
    usual_directory().ok_or_else(|| {
        Failure::Usage(
            "serve: XDG_RUNTIME_DIR is not set, so there is no directory to serve by default; name \
             one with --dir"
                .into(),
        )
    })
}

/// Prints where the driver serves, and a warning if it has room for few watchers.
fn announce(server: &Server, report: &Report, voice: &Voice) -> Result<(), Failure> {
    let directory = path::absolute(server.dir())
        .map_err(|error| Failure::io(server.dir(), "finding its full path", &error))?;
    let generation = Probe::open_at(&directory)?.generation();
    // Before anything is said: a reader may remove the page at once.
    let source = Source::at(&directory)?;
    let (shown, capacity) = (Printable::new(&directory), server.capacity());
    if capacity < WANTED_WATCHERS {
        let warning = format!(
            "sysgenid: {shown}: warning: the limits of this process leave room for {capacity} \
             watchers, fewer than {WANTED_WATCHERS}; raise those of open files (`ulimit -Hn`) and \
             of mappings (`sysctl vm.max_map_count`)",
        );
        voice.say(To::Stderr, warning);
    }
    if report.followers.is_empty() && !report.missing.is_empty() {
        let warning = format!(
            "sysgenid: {shown}: warning: nothing here announces restores; whoever restores must run \
             `sysgenid trigger`",
        );
        voice.say(To::Stderr, warning);
    }
    let announcement = format!(
        "serving generation {generation} in {shown}, with room for {capacity} watchers\n\
         {}\n\
         clients find it with\n\
         \n    export {SOURCE_VARIABLE}={}\n\
         \nstop it with Ctrl-C; the generation stays in the directory",
        followed(report),
        quoted(directory.as_os_str()),
    );
    voice.say(To::Stdout, announcement);
    supervisor::report(source, generation)
}

/// What the driver follows, and what it does not, with the reason.
fn followed(report: &Report) -> String {
    let mut text = match report.followers.is_empty() {
        true => "follows nothing: whoever restores runs `sysgenid trigger`".into(),
        false => format!("follows {}", report.followers),
    };
    for missing in &report.missing {
        let _ = write!(text, "\n  not {missing}");
    }
    text
}

/// The first signal ends the driver in order, the second at once.
fn stop_on_signal(signals: Caught, stopper: Stopper) -> Result<(), Failure> {
    let mut stopping = false;
    signals.handle(move |signal| {
        if stopping {
            let _ = emulate_default_handler(signal);
        }
        stopping = true;
        stopper.stop();
    })
}

/// Quotes a path so that a shell reads it back byte for byte. Bytes that are not printable text need
/// `$'…'`, which bash, zsh and ksh read, and other shells may not.
fn quoted(text: &OsStr) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    let printable = |c: char| c == '\\' || Printable::shows(c);
    match text.to_str() {
        Some(text) if text.chars().all(plain) && !text.is_empty() => text.into(),
        Some(text) if text.chars().all(printable) => {
            format!("'{}'", text.replace('\'', r"'\''")).into()
        }
        _ => {
            let mut quoted = String::from("$'");
            for &byte in text.as_bytes() {
                match byte {
                    b'\'' | b'\\' => quoted.extend(['\\', char::from(byte)]),
                    b' '..=b'~' => quoted.push(char::from(byte)),
                    // Three digits, so that a digit that follows is not one more of them.
                    _ => quoted += &format!("\\{byte:03o}"),
                }
            }
            (quoted + "'").into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_the_path_back() {
        for (path, expected) in [
            (&b"/run/user/1000/sysgenid"[..], "/run/user/1000/sysgenid"),
            (b"/tmp/it's here", r"'/tmp/it'\''s here'"),
            (b"/tmp/$HOME", "'/tmp/$HOME'"),
            (r"/tmp/\ü".as_bytes(), r"'/tmp/\ü'"),
            (b"/a\n1'\\\xff", r"$'/a\0121\'\\\377'"),
            ("\u{202e}".as_bytes(), r"$'\342\200\256'"),
        ] {
            assert_eq!(quoted(OsStr::from_bytes(path)), expected);
        }
    }
}
