// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What systemd is told about the userspace driver, if it has started it.

use std::thread;

use sd_notify::{NotifyState, notify, watchdog_enabled};
use sysgenid::{Generation, Printable, Source};

use crate::failure::Failure;

/// Says that the driver serves, and then from time to time that it answers, if the unit asks for that
/// (`WatchdogSec=`). It is asked as its clients ask it, so one that hangs is started again.
///
/// A thread says it, because systemd may be slow to listen. If it does not hear it, it ends the driver
/// itself.
pub(crate) fn report(source: Source, generation: Generation) -> Result<(), Failure> {
    let shown = Printable::new(source.path());
    let status = format!("serving generation {generation} in {shown}");
    let tell = move || {
        let _ = notify(&[NotifyState::Ready, NotifyState::Status(&status)]);
        // Twice in a period, and each answer has half of the time between two.
        let pause = watchdog_enabled().map(|period| period / 4);
        while let Some(pause) = pause {
            if source.status(pause).is_ok() {
                let _ = notify(&[NotifyState::Watchdog]);
            }
            thread::sleep(pause);
        }
    };
    match thread::Builder::new().name("supervisor".into()).spawn(tell) {
        Ok(_detached) => Ok(()),
        Err(error) => Err(Failure::call("starting a thread", error)),
    }
}
