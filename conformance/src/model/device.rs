// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::time::Duration;

/// What is compared with the model. Errors that the model does not know are panics.
pub(super) trait Device {
    /// Whether a watcher can be untracked. Where it cannot, no operation asks for it.
    fn can_untrack(&self) -> bool;
    /// A watcher that is up to date.
    fn open(&self, tracked: bool) -> Box<dyn Watcher>;
    /// Changes the generation; returns the new one.
    fn trigger(&self, min: u32) -> u32;
    /// The mapped counter.
    fn page(&self) -> u32;
    /// The counts of watchers other than those that belong to this itself, if the device tells.
    fn counts(&self) -> Option<Counts>;
}

/// A watcher of a device.
pub(super) trait Watcher: Send {
    /// The generation, if there is one to read.
    fn read(&self) -> Option<u32>;
    /// Whether `poll` says that there is one.
    fn is_ready(&self) -> bool;
    /// Whether the acknowledgement is accepted.
    fn acknowledge(&self, generation: u32) -> bool;
    fn set_tracking(&self, tracked: bool);
    /// Waits for the watchers.
    fn wait(&mut self, timeout: Duration) -> Waited;
}

/// How a wait for the watchers ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// No tracked watcher is outdated.
    Done,
    /// The caller is.
    Outdated,
    TimedOut,
}

/// How many watchers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) total: usize,
    pub(super) tracked: usize,
    /// Of those tracked.
    pub(super) outdated: usize,
}
