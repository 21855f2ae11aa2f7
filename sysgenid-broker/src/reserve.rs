// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Descriptors kept back for when all others are used up.

use std::os::fd::OwnedFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// How many clients can be told at once that the broker is full.
const GUESTS: usize = 15;

/// Without these a client that cannot be accepted would keep the listening socket ready, and the
/// event loop would spin.
#[derive(Debug)]
pub(crate) struct Reserve(Vec<OwnedFd>);

impl Reserve {
    pub(crate) fn new() -> Result<Self, Errno> {
        let spares = (0..=GUESTS).map(|_| spare()).collect::<Result<_, _>>()?;
        Ok(Self(spares))
    }

    /// Takes back what was given away, as far as descriptors are free again.
    pub(crate) fn refill(&mut self) {
        while self.0.len() <= GUESTS {
            match spare() {
                Ok(spare) => self.0.push(spare),
                Err(_) => return,
            }
        }
    }

    /// Accepts a client in place of a spare descriptor: a guest. The last spare is not given away:
    /// with it a client is accepted and closed at once, and the answer is `None`.
    ///
    /// Fails if other threads, or other processes, took the descriptor meanwhile.
    pub(crate) fn accept(
        &mut self,
        accept: impl Fn() -> Result<OwnedFd, Errno>,
    ) -> Result<Option<OwnedFd>, Errno> {
        drop(self.0.pop());
        let accepted = accept();
        if !self.0.is_empty() {
            return accepted.map(Some);
        }
        let turned_away = accepted.map(drop);
        self.refill();
        turned_away.map(|()| None)
    }
}

fn spare() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC)
}
