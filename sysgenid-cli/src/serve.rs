// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid serve`: the userspace driver.

use std::borrow::Cow;
use std::env;
use std::io::{self, Write};
use std::path::{self, Path, PathBuf};
use std::thread;

use rustix::process::geteuid;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;
use sysgenid::{Probe, SOURCE_VARIABLE};
use sysgenid_broker::{Server, Stopper};

use crate::args::ServeArgs;
use crate::eof::on_end_of_input;
use crate::failure::Failure;
use crate::output::Output;

/// What the driver is built for.
const WANTED_WATCHERS: u64 = 10_000;

pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let folder = match &args.dir {
        Some(folder) => folder.clone(),
        None => default_folder()?,
    };
    // Before the folder is taken, so that a signal never leaves its sockets behind.
    let signals = Signals::new([SIGINT, SIGTERM])
        .map_err(|error| Failure::call("handling signals", error))?;
    let server = Server::bind(&folder)?;
    stop_on_signal(signals, server.stopper())?;
    if args.until_eof {
        let stopper = server.stopper();
        on_end_of_input(move || stopper.stop())?;
    }
    match announce(&server) {
        // Clients depend on the driver, and not on whether somebody reads what it says.
        Ok(()) | Err(Failure::Closed) => {}
        Err(failure) => return Err(failure),
    }
    server.run()?;
    Ok(())
}

fn default_folder() -> Result<PathBuf, Failure> {
    if geteuid().is_root() {
        return Ok("/run/sysgenid".into());
    }
    match env::var_os("XDG_RUNTIME_DIR") {
        Some(folder) if Path::new(&folder).is_absolute() => Ok(Path::new(&folder).join("sysgenid")),
        _ => Err(Failure::Usage(
            "serve: XDG_RUNTIME_DIR is not set, so there is no folder to serve by default; name \
             one with --dir"
                .into(),
        )),
    }
}

fn announce(server: &Server) -> Result<(), Failure> {
    let folder = path::absolute(server.dir())
        .map_err(|error| Failure::io(server.dir(), "finding its full path", &error))?;
    let generation = Probe::open_at(&folder)?.generation();
    if server.capacity() < WANTED_WATCHERS {
        let _ = writeln!(
            io::stderr(),
            "sysgenid: {}: warning: the limit of open files leaves room for {} watchers, fewer \
             than {WANTED_WATCHERS}; raise it (`ulimit -Hn`) to at least {}",
            folder.display(),
            server.capacity(),
            2 * WANTED_WATCHERS + 100,
        );
    }
    Output::new(false).text(format_args!(
        "serving generation {generation} in {}, with room for {} watchers\n\
         clients find it with\n\
         \n    export {SOURCE_VARIABLE}={}\n\
         \nstop it with Ctrl-C; the generation stays in the folder",
        folder.display(),
        server.capacity(),
        quoted(&folder.to_string_lossy()),
    ))
}

/// The first signal ends the driver in order, the second at once.
fn stop_on_signal(mut signals: Signals, stopper: Stopper) -> Result<(), Failure> {
    let watch = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            if stopping {
                let _ = emulate_default_handler(signal);
            }
            stopping = true;
            stopper.stop();
        }
    };
    match thread::Builder::new().name("signals".into()).spawn(watch) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Failure::call("starting a thread", error)),
    }
}

/// As a POSIX shell takes it.
fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,".contains(&byte);
    if text.bytes().all(plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', r"'\''")).into()
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_shell_reads_the_path_back() {
        assert_eq!(quoted("/run/user/1000/sysgenid"), "/run/user/1000/sysgenid");
        assert_eq!(quoted("/tmp/it's here"), r"'/tmp/it'\''s here'");
        assert_eq!(quoted("/tmp/$HOME"), "'/tmp/$HOME'");
    }
}
