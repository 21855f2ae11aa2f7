// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `Watcher::acknowledge`, in its steps.

use crate::scene::{Flaw, Source};
use crate::world::{Number, Request, World};

/// What a step of a call leads to: the next one, or what the call returns.
pub(crate) enum Next<At, Result> {
    At(At),
    Done(Result),
}

/// Where a call of `acknowledge` is. It returns whether the generation was the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Ack {
    // On the broker, as `sysgenid_sys::wire` gives them.
    FirstLook,
    ReadNotice,
    Remember,
    LeaveInSlot,
    SecondLook,
    Tell,
    // On the kernel driver.
    Lock,
    Write,
    Hook(Hook),
}

/// Where a call of `DeviceWatcher::hook` is, or the broker's one `epoll_ctl`. It returns whether
/// epoll is on the wait queue for certain. With the number that was acknowledged just before, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hook {
    /// `EPOLL_CTL_DEL`, then `EPOLL_CTL_ADD` as far as the two halves of `poll`.
    Take,
    /// The second half of `poll`.
    Finish,
    /// Whether that number can be acknowledged once more.
    Confirm,
    /// `EPOLL_CTL_MOD`, which looks.
    Report,
}

impl Ack {
    pub(crate) fn of(source: Source) -> Self {
        match source {
            Source::Broker => Self::FirstLook,
            Source::Driver | Source::FaultyDriver => Self::Lock,
        }
    }
}

impl World {
    /// The next step of an acknowledgement; none while another one has locked the watcher.
    pub(crate) fn acknowledge(&mut self, number: Number, at: Ack) -> Option<Next<Ack, bool>> {
        let is_current = self.page == number;
        Some(Next::At(match at {
            Ack::FirstLook if is_current => Ack::ReadNotice,
            Ack::FirstLook => return Some(Next::Done(false)),
            Ack::ReadNotice => {
                self.notices = self.notices.saturating_sub(1);
                Ack::Remember
            }
            Ack::Remember => {
                self.overwrite(number);
                self.remembered = number;
                Ack::LeaveInSlot
            }
            Ack::LeaveInSlot => {
                self.overwrite(number);
                self.acknowledged = number;
                Ack::SecondLook
            }
            Ack::SecondLook if is_current || self.has(Flaw::NoSecondLook) => {
                return Some(Next::Done(true));
            }
            Ack::SecondLook => Ack::Tell,
            Ack::Tell => {
                self.requests.push(Request::Acknowledge(number));
                return Some(Next::Done(false));
            }
            Ack::Lock if self.is_locked => return None,
            Ack::Lock => {
                self.is_locked = true;
                Ack::Write
            }
            Ack::Write if is_current => {
                self.acknowledged = number;
                if self.is_certain {
                    return Some(self.unlock(true));
                }
                Ack::Hook(Hook::Take)
            }
            Ack::Write => return Some(self.unlock(false)),
            Ack::Hook(at) => match self.hook(at, Some(number)) {
                Next::At(at) => Ack::Hook(at),
                Next::Done(is_certain) => {
                    self.is_certain = is_certain;
                    return Some(self.unlock(true));
                }
            },
        }))
    }

    fn unlock(&mut self, is_current: bool) -> Next<Ack, bool> {
        self.is_locked = false;
        Next::Done(is_current)
    }

    /// Puts the watcher's epoll instance on the source's wait queue.
    pub(crate) fn hook(&mut self, at: Hook, acknowledged: Option<Number>) -> Next<Hook, bool> {
        let is_faulty = self.source == Source::FaultyDriver;
        Next::At(match at {
            Hook::Take => {
                (self.inner.is_hooked, self.inner.is_listed) = (!is_faulty, false);
                if is_faulty && self.is_readable() {
                    self.report();
                    Hook::Confirm
                } else {
                    Hook::Finish
                }
            }
            Hook::Finish if is_faulty => {
                self.inner.is_hooked = true;
                Hook::Confirm
            }
            Hook::Finish => {
                if self.is_readable() {
                    self.report();
                }
                Hook::Confirm
            }
            Hook::Confirm if self.source == Source::Broker => return Next::Done(true),
            Hook::Confirm if acknowledged == Some(self.page) => return Next::Done(true),
            Hook::Confirm if self.has(Flaw::HookInSilence) || self.has(Flaw::HookOnce) => {
                return Next::Done(self.has(Flaw::HookOnce));
            }
            Hook::Confirm => Hook::Report,
            Hook::Report => {
                if self.is_readable() {
                    self.report();
                }
                return Next::Done(false);
            }
        })
    }
}
