// SPDX-License-Identifier: Apache-2.0 OR MIT
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]
//! Await a change of the system generation with [tokio](https://tokio.rs): this virtual machine or
//! container was restored or cloned from a snapshot, and what must be unique has to be rebuilt.
//!
//! The crate [`sysgenid`] says what a generation is, where it comes from, and what can be promised.
//! This one brings what waits to tokio: a change is awaited like any other event, and no thread of
//! the runtime is ever blocked.
//!
//! # Quick start
//!
//! ```no_run
//! # async fn rotate_keys() -> std::io::Result<()> { Ok(()) }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut changes = sysgenid_tokio::changes();
//! loop {
//!     // Of whichever source there is; it reconnects by itself.
//!     let change = changes.next_change().await?;
//!     rotate_keys().await?;
//!     change.acknowledge()?;
//! }
//! # }
//! ```
//!
//! # Anatomy
//!
//! - [`changes`]: awaits changes of whichever source there is, through restarts and replacements, one by
//!   one or as a stream.
//! - [`Watcher`]: awaits a change of one source and acknowledges it. It is a thin layer around tokio's `AsyncFd`:
//!   [`as_ref`](Watcher#impl-AsRef%3CWatcher%3E-for-Watcher) gives the [`sysgenid::Watcher`], and `From`
//!   takes it out again. It is a `Stream`, too.
//! - [`AsyncOrchestrator`]: triggers a change, or awaits it, and waits until all have acknowledged.
//! - [`Observer`]: awaits a change of a counter that the hypervisor writes, where it notifies.
//! - [`PolledProbe`]: looks every now and then, where nothing tells of changes.
//! - [`SharedGuarded`]: a cached secret whose build awaits something, rebuilt after a restore or a fork.
//! - `GateLayer` (feature `tower`): a service that serves nothing while a [`sysgenid::Gate`] is closed.
//! - [`hook`]: makes an asynchronous function a hook of [`sysgenid::hooks`]; [`run_after_restore`] and
//!   [`run_before_snapshot`] run all hooks without holding up the runtime.
//! - [`NotRegistered`]: why a runtime did not take one of them, and the thing itself.
//!
//! Errors are [`sysgenid::Error`]. Those of a missing or ending runtime are
//! [`is_runtime`](sysgenid::Error::is_runtime).
//!
//! # Runtimes
//!
//! All works in runtimes of one thread and of several. A value belongs to the runtime that it was
//! made in; there its readiness is driven, wherever it is awaited. When that runtime ends, whoever
//! waits is told (`is_runtime`).
//!
//! A broker that hangs holds up nothing but what is asked of it:
//!
//! - [`changes`] waits for descriptors and by the runtime's timer, also while it connects.
//! - Calls that wait for one answer (opening, reconnecting, triggering, naming stragglers) run in tokio's
//!   pool of blocking threads. Against a broker that hangs they fail with `is_timeout` after five seconds
//!   by the system's clock. If the pool is exhausted they wait for a thread of it. A runtime that is
//!   dropped waits for those under way, as it does for all that is in the pool;
//!   `Runtime::shutdown_background` does not.
//! - The wait for the watchers awaits an answer of the broker on a connection of its own, and a thread of
//!   the pool looks once more when its deadline has passed. On the kernel device, whose wait is a system
//!   call that blocks, a thread of its own makes it, one for each orchestrator at most. That thread is
//!   independent of the pool and of a runtime that is dropped. After its future it ends within the time
//!   that it has waited, or two seconds if that is less.
//!
//! **A paused clock** (`tokio::time::pause`) stands still during calls of the first kind, so a
//! timeout around one does not pass at once. The deadline of the second kind is the runtime's clock:
//! paused, it passes in no time, and a watcher that acknowledged before it counts.
//!
//! **A forked child** cannot use its parent's runtime: its calls fail with `is_forked`. It must not
//! even drop these values, because that takes them out of the *parent's* runtime, which waits for
//! ever then, as with everything that is registered with tokio. A child that goes on without `exec`
//! leaves them alone (`std::mem::forget`), and opens its own in a runtime of its own.
//!
//! # What it does not do
//!
//! It rebuilds nothing by itself, and does not acknowledge for you, but in `handle` and `settle`. Only
//! [`changes`] reconnects by itself when a broker is lost. And what the source cannot promise it cannot
//! either: see the crate [`sysgenid`] and the chapter on guarantees in the project's book.
//!
//! # Panics
//!
//! Without a runtime there is an error. But what is made in a runtime that was built without its I/O
//! driver panics, and so does a deadline in one without its timer: `Builder::enable_all` turns both
//! on. The pool panics if the system gives it no first thread.
//!
//! # Features and minimum Rust
//!
//! - `tower`: `GateLayer`, for services of tower-service 0.3.
//!
//! None is on by default. Of tokio 1, from 1.54 on, it needs `net`, `rt`, `sync` and `time`, and turns
//! them on itself; whether there are one or several threads is the program's choice. Linux only;
//! elsewhere the crate is empty. Rust 1.85; a newer minimum is a minor release.

mod changes;
#[cfg(feature = "tower")]
mod gate;
mod hooks;
mod not_registered;
mod observer;
mod orchestrator;
mod polled_probe;
mod readiness;
mod runtime;
mod shared;
mod watcher;

pub use changes::{Changes, changes};
#[cfg(feature = "tower")]
pub use gate::{Answer, GateLayer, Gated};
pub use hooks::{hook, run_after_restore, run_before_snapshot};
pub use not_registered::NotRegistered;
pub use observer::Observer;
pub use orchestrator::AsyncOrchestrator;
pub use polled_probe::PolledProbe;
pub use shared::SharedGuarded;
pub use watcher::Watcher;

/// The example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
