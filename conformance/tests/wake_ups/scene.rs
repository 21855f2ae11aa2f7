// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a world is made of, and what may be wrong with it.

/// What the watcher is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    Broker,
    /// A kernel driver whose `poll` takes the caller to the wait queue, then looks.
    Driver,
    /// One that looks, and takes the caller to the wait queue only if there is nothing to see.
    FaultyDriver,
}

/// How the watcher came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    Opened,
    /// Made of a driver's descriptor, which may be outdated already.
    Descriptor,
}

/// What the task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Use {
    /// `loop { ack(changed().await) }`.
    Handles,
    /// `while let Some(told) = stream.next().await`, and acknowledges what it is told, or not.
    Streams,
}

/// What the world is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scene {
    pub(crate) source: Source,
    pub(crate) origin: Origin,
    pub(crate) task: Use,
    pub(crate) left: Budget,
}

/// How often what may happen happens at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Budget {
    pub(crate) changes: u8,
    pub(crate) cancellations: u8,
    pub(crate) moves: u8,
    pub(crate) looks_of_another: u8,
}

/// Something done wrong on purpose. Each must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flaw {
    /// Readiness is cleared although it has been set again since it was looked at.
    ClearWithoutTick,
    /// Readiness is cleared although there was something to see.
    ClearAfterChange,
    /// A descriptor is looked at before it is registered, and not after.
    LookBeforeRegistering,
    /// The watcher is hooked when it is opened, and never again.
    HookOnce,
    /// An opened watcher is handed out before it is hooked for certain.
    HookLater,
    /// A change that comes while the watcher is hooked is not reported.
    HookInSilence,
    /// An acknowledgement is not checked against the page after a notice was read.
    NoSecondLook,
    /// What the client has left in its slot is not looked at.
    LateNoticeIsChange,
    /// A slot that was emptied for a change which is not in the page yet is taken for one of before
    /// the current generation.
    EmptySlotIsChange,
    /// The page is not looked at again after the slot.
    PageNotLookedAtAgain,
    /// The broker sends a notice before it stores the page.
    NoticeBeforePage,
    /// The broker looks whether the last notice was read before it stores the page, and not after.
    NoLookAfterPage,
    /// The broker sends nothing to a client whose acknowledgement was stale.
    StaleIsNotAnswered,
    /// A stream does not say that it waits for the next change.
    StreamKeepsQuiet,
    /// The broker takes a stream to have seen the change that comes while the stream says so.
    NotifyLater,
    /// A stream leaves what it does not acknowledge in the queue, which is full at some time.
    StreamFillsQueue,
}
