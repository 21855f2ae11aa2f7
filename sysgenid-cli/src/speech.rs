// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Output of a process that other processes depend on. A full pipe blocks its writer, so a separate
//! thread writes each text, and only the end of the process waits for that, briefly.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

/// How long the end of the process waits for what has not been written yet.
const PARTING: Duration = Duration::from_millis(200);

/// Where a text goes.
#[derive(Clone, Copy)]
pub(crate) enum To {
    Stdout,
    Stderr,
}

/// Texts under way.
pub(crate) struct Speech {
    voice: Voice,
    receiver: Receiver<()>,
}

/// What says them, on any thread.
#[derive(Clone)]
pub(crate) struct Voice {
    /// Dropped by each thread that is done. Nothing is sent.
    sender: Sender<()>,
}

impl Speech {
    pub(crate) fn new() -> Self {
        let (sender, receiver) = channel();
        Self {
            voice: Voice { sender },
            receiver,
        }
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.voice
    }

    /// Waits a moment for the texts that have not been written yet.
    pub(crate) fn finish(self) {
        drop(self.voice);
        let _ = self.receiver.recv_timeout(PARTING);
    }
}

impl Voice {
    /// Writes the text and a line break without waiting. A failure is ignored: the reader may have
    /// gone, or the disk may be full.
    pub(crate) fn say(&self, to: To, mut text: String) {
        let sender = self.sender.clone();
        text.push('\n');
        let write = move || {
            let _ = match to {
                To::Stdout => {
                    let mut stdout = io::stdout();
                    stdout
                        .write_all(text.as_bytes())
                        .and_then(|()| stdout.flush())
                }
                To::Stderr => io::stderr().write_all(text.as_bytes()),
            };
            drop(sender);
        };
        // Without a thread, nothing is printed.
        let _ = thread::Builder::new().name("speech".into()).spawn(write);
    }
}
