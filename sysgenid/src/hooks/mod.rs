// SPDX-License-Identifier: Apache-2.0 OR MIT
// Here is what the program does before a snapshot and after a restore, and the thread that has it
// done. Nothing here looks at a source by itself: `watch` tells, and `check` knows what there is.

//! Functions that are called before a snapshot and after a restore.
//!
//! The words and the orders are those of AWS Lambda SnapStart and of Java's CRaC: before a snapshot in
//! reverse order of registration, after a restore in the order of registration. The same words stand
//! in every language of this project.
//!
//! ```
//! use std::io;
//! use sysgenid::hooks;
//!
//! let pool = hooks::after_restore(|restore| {
//!     println!("new connections for generation {}", restore.generation());
//!     Ok::<_, io::Error>(())
//! });
//! hooks::before_snapshot(|_| println!("no request is under way"));
//!
//! hooks::run_before_snapshot()?; // the program is told of the snapshot in some other way
//! hooks::run_after_restore(sysgenid::generation())?;
//! # let _ = pool;
//! # Ok::<(), hooks::HookErrors>(())
//! ```
//!
//! Nothing runs by itself. [`background`] starts a thread that runs the hooks for each change and
//! acknowledges it. A program that waits for changes itself calls [`run_after_restore`], and
//! acknowledges if that succeeded.
//!
//! # What a hook is
//!
//! Hooks are the process's; a forked child has its parent's. A hook takes a [`HookContext`] and returns
//! nothing or a `Result`.
//!
//! - A hook that fails keeps no other from running. Then the run fails, unless the hook's failure is
//!   [ignored](OnFailure::Ignore).
//! - A panic is a failure, and unwinds no further. (In a program that is built with `panic = "abort"`
//!   it ends the process.)
//! - A hook has as long as it takes, unless it has a [deadline](HookOptions::deadline): then the run
//!   goes on without it.
//! - One run is made at a time. A hook that runs hooks gets an error; a hook that waits for another
//!   thread's run waits forever.
//!
//! # What is not guaranteed
//!
//! A hook is not the next thing to run: the other threads go on in the old generation meanwhile. What
//! must not be used twice belongs in a [`Guarded`](crate::Guarded), which looks at each use.

mod background;
mod context;
mod entry;
mod failure;
mod options;
mod registry;
mod runner;

pub use background::{Background, BackgroundError, BackgroundEvent, BackgroundOptions, background};
pub use context::HookContext;
pub use failure::{HookErrors, HookFailure, HooksRan};
pub use options::{HookOptions, HookResult, OnFailure, options};
pub use registry::{Hook, after_restore, before_snapshot};
pub use runner::{run_after_restore, run_before_snapshot};

pub(crate) use failure::EndRun;
