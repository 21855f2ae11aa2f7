// SPDX-License-Identifier: Apache-2.0 OR MIT
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
//! Notice that this virtual machine or container was restored or cloned from a snapshot, and
//! rebuild what must be unique.
//!
//! A restored snapshot brings back everything in memory that had to be unique: the state of random
//! number generators, session keys, nonces, identifiers. Two clones then hold the same. The
//! kernel reseeds its own generator; programs are left alone. The *system generation* is a
//! counter that changes when it happens, and this crate is its client: for the kernel driver
//! `/dev/sysgenid`, and for a userspace driver where there is none.
//!
//! # Quick start
//!
//! ```
//! use sysgenid::Guarded;
//!
//! # #[cfg(any())]
//! sysgenid::ProcessWide.verify()?; // without a source no restore is seen
//! let mut key = Guarded::new(|_generation| Ok(sysgenid::entropy::array::<32>()?));
//! // Rebuilt first if this is a clone, or a forked child.
//! let first_byte = key.with(|key| key[0])?;
//! # let _ = first_byte;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Anatomy
//!
//! - [`Source`]: where a generation comes from, and how it is found.
//! - [`Probe`]: the current generation at the cost of one load.
//! - [`ProcessWide`]: all that this process can know of restores and forks; [`generation`] and
//!   [`uniqueness`] ask it. It and a probe are [`Witness`]es, which guards look at.
//! - [`protection`]: what the process sees of restores and forks, in one line; [`init`] sets it up
//!   before a sandbox.
//! - [`Guarded`]: a cached secret that is rebuilt after a restore or a fork. [`SharedGuarded`] is
//!   one for many threads, [`ThreadGuarded`] one for `thread_local!`.
//! - [`Bound`]: a value that is refused after a restore or a fork, and not rebuilt: a connection, a lease.
//!   [`Loaded`] is one of a [`SharedGuarded`], taken across an `await`. [`Stale`] is their refusal.
//! - [`Gate`]: closed from a change on until the program has handled it.
//! - [`entropy::array`] and [`entropy::fill`]: random bytes of the kernel, for keys and all that is
//!   kept. `KernelRng` (feature `rand_core`) is the same for code that takes a generator.
//! - `SnapshotSafeRng` and `rng()` (features `rand_core` and `rng`): random numbers that no other clone
//!   draws.
//! - [`changes`]: waits for changes of whichever source there is, through restarts and replacements,
//!   and acknowledges them.
//! - [`Watcher`]: the same for one source. It waits for a change and acknowledges it, alone or in an event loop: of mio by the
//!   feature `mio`, in tokio by the crate `sysgenid-tokio`, in any other by its descriptor.
//! - [`Observer`]: waits for a change of a counter that the hypervisor writes, where that notifies.
//! - [`hooks`]: functions that are called before a snapshot and after a restore, and [`background`], the
//!   thread that has them called.
//! - [`Orchestrator`]: triggers a change, or notices it, and waits until all have acknowledged.
//! - [`Straggler`] and [`StragglerSummary`]: the processes that have not, one by one and in a line.
//! - [`PageFile`]: the writer of a page file, for a host that has no driver.
//! - [`Generation`], [`Deadline`] and [`Error`]: what they speak in. [`Printable`]: the text of others,
//!   made safe to print.
//! - `testing` (the feature of that name): restores and forks that a test of your code plays.
//! - [`adapter`]: for those who bring all this to another runtime.
//!
//! # What it does not do
//!
//! It cannot see a restore before the source does, nor take back what was given away before. A
//! generation is no identity: all clones of one snapshot see the same next one. See the chapter on
//! guarantees in the project's book.
//!
//! # Kernel and permissions
//!
//! Any Linux since 5.10 with the userspace driver, without privileges. The kernel driver's node is
//! `0600 root` unless the administrator opens it: a probe needs to read it, a watcher to read and
//! write, and a trigger `CAP_CHECKPOINT_RESTORE` or `CAP_SYS_ADMIN`. On other systems the crate is
//! empty.
//!
//! # Features and minimum Rust
//!
//! None is on by default.
//!
//! - `mio`: [`Watcher`] and [`Observer`] are `event::Source`s of mio, in its version 1.2 or a later 1.
//! - `rand_core`: `SnapshotSafeRng`, around a generator of the caller's choice that implements the
//!   traits of rand_core 0.10, and `KernelRng`, which draws from the kernel.
//! - `rand_core_06` and `rand_core_09`: all these generators by the traits of rand_core 0.6 and 0.9 as
//!   well, for crates that take those.
//! - `rng`: `sysgenid::rng()`, which takes the place of `rand::rng()` of rand 0.10. It needs chacha20,
//!   which rand needs as well.
//! - `testing`: the module `testing`, by which a test plays
//!   restores and forks. For `[dev-dependencies]` only.
//!
//! Rust 1.85; a newer minimum is a minor release.

pub mod adapter;
mod base;
mod check;
mod hold;
pub mod hooks;
mod orchestrate;
mod random;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod watch;

pub use base::{Cause, Deadline, Error, Generation, Printable, Result};
pub use check::{
    ForkDetection, Probe, ProcessWide, Protection, Refreshed, RestoreOnly, Uniqueness, Witness,
    assume_restored, generation, init, protection, uniqueness,
};
pub use hold::{
    Bound, BuildError, Gate, Guarded, Loaded, Pass, SharedGuarded, SharedReader, Stale,
    ThreadGuarded,
};
pub use hooks::{Background, background};
pub use orchestrate::{
    Orchestrator, OrchestratorOptions, Parked, Quiescing, Settled, Straggler, StragglerSummary,
};
/// The traits of the generators, in the version that they implement.
#[cfg(feature = "rand_core")]
pub use rand_core;
pub use random::entropy;
#[cfg(feature = "rand_core")]
pub use random::{KernelRng, SnapshotSafeRng};
#[cfg(feature = "rng")]
pub use random::{ThreadRng, rng};
pub use source::{
    Backend, BrokerStatus, PageFile, SOURCE_VARIABLE, Source, SourceKind, Status, WatcherCounts,
};
/// The crate below is this project's own and has this version's number, so its type is no
/// stranger here.
pub use sysgenid_sys::abi::Dialect;
pub use sysgenid_sys::wire::Followers;
pub use watch::{
    Acknowledged, Change, Changes, ChangesOptions, ChangesUntil, ChangesWaker, NotAWatcher,
    Observer, Watcher, WatcherOptions, changes,
};
/// What a value must implement for a guard to wipe it, of the version that this crate has.
pub use zeroize::Zeroize;

/// Whether the feature `testing` is on: for a measurement, which must not be made with it.
#[doc(hidden)]
pub const IS_TESTING: bool = cfg!(feature = "testing");
