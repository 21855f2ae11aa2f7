// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Restores and forks that a test plays in its own process, for code that uses this crate (feature
//! `testing`).
//!
//! [`Restores`] is a world in which a test restores the system and forks the process at will.
//! [`Restores::scope`] puts the test's thread into it: [`uniqueness`](crate::uniqueness),
//! [`generation`](crate::generation), `rng()` and every guard on
//! [`ProcessWide`](crate::ProcessWide) then look at this world, and not at the machine.
//! [`changes`](crate::changes) report its restores, and a [hook](crate::hooks) that is registered there
//! runs there only. The code under test stays as it is, and so does its signature.
//!
//! ```
//! // The code under test: an identifier that no clone may share.
//! # #[cfg(feature = "rng")] {
//! # use sysgenid::Guarded;
//! # use sysgenid::rand_core::Rng;
//! struct Session(Guarded<u64>);
//!
//! impl Session {
//!     fn new() -> Self {
//!         Self(Guarded::new(|_| Ok(sysgenid::rng().next_u64())))
//!     }
//!
//!     fn id(&mut self) -> u64 {
//!         *self.0.get().expect("an identifier")
//!     }
//! }
//!
//! // Its test.
//! let restores = sysgenid::testing::Restores::new();
//! let _scope = restores.scope();
//!
//! let mut session = Session::new();
//! let before = session.id();
//! assert_eq!(session.id(), before);
//! restores.restore();
//! assert_ne!(session.id(), before);
//! # }
//! ```
//!
//! A scope belongs to one thread, so tests that run in parallel do not see each other's restores.
//! Other threads are put into the world explicitly: by [`in_scope`](Restores::in_scope) what they
//! run, by [`around`](Restores::around) a future, on whichever thread it is polled.
//!
//! # What it does not do
//!
//! - No memory is copied and no process made. A test that wants a real fork forks; that is seen in a
//!   world as well.
//! - A [`Watcher`](crate::Watcher), an [`Observer`](crate::Observer) and an
//!   [`Orchestrator`](crate::Orchestrator) have their own source, which no world changes. So does
//!   a [`Probe`](crate::Probe), but that sees the forks that are played. An isolated source for a
//!   test is `sysgenid_broker::testing::Broker`.
//! - Hooks that are registered outside of all worlds run in every one, and two tests never run hooks
//!   at a time: as in a program, one run waits for the other. The [background](crate::background)
//!   thread is the world's, and runs until it is stopped.
//! - A thread that the code under test starts by itself is outside, unless that code runs it with
//!   [`in_scope`](Restores::in_scope).
//!
//! # Only for tests
//!
//! Name the feature under `[dev-dependencies]`, and nowhere else:
//!
//! ```toml
//! [dev-dependencies]
//! sysgenid = { version = "0.1", features = ["testing"] }
//! ```
//!
//! With it every look at the process-wide witness asks first whether its thread is in a scope, which
//! costs some nanoseconds. Without it not one instruction is added. Cargo builds the programs of a
//! package for `cargo test` and for `cargo bench` with the features of its `dev-dependencies`: put
//! a benchmark whose numbers matter into another package, as this project does.

mod around;
mod restores;

pub use around::Around;
pub use restores::{Restores, Scope};

pub use crate::check::world::Look;
