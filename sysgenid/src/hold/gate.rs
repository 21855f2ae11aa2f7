// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use super::handled::Handled;
use super::stale::Stale;
use super::waiting::{Place, Waiting};
use crate::base::sync::constant;
use crate::check::unchanged::{is_current, is_unchanged, mark_for_build};
use crate::check::{ProcessWide, Uniqueness, Witness};

/// A gate that is closed while the program is outdated: from a change on until the program has
/// handled it.
///
/// It closes by itself. Each look compares the counters with those for which the gate was last
/// opened, so that it is closed from the change on, before any thread is notified. Whatever
/// handles changes opens it again.
///
/// ```
/// use sysgenid::{Gate, Stale};
///
/// let gate = Gate::new(); // open: nothing has changed yet
///
/// // For each request:
/// let pass = gate.check()?; // refused while outdated
/// let answer = "made of what must be unique";
/// pass.check()?; // and not answered if a change came meanwhile
///
/// // For each change:
/// let mark = gate.mark(); // first: a change that comes meanwhile is not handled by this
/// rebuild_what_must_be_unique();
/// gate.open(mark);
/// # fn rebuild_what_must_be_unique() {}
/// # let _ = answer;
/// # Ok::<(), Stale>(())
/// ```
///
/// Without a source a gate is as open as it was: [`ProcessWide`] shows no restores there. A first
/// source that appears later is a change, which closes the gate. A fork closes it in the child.
///
/// # What is not guaranteed
///
/// - The gate is opened by nothing but [`open`](Self::open). If nothing handles a change, it stays
///   closed.
/// - Between a look and what follows it there may be a change. [`Pass::check`] after the work narrows
///   that window to a few instructions; no check closes it.
/// - Its calls are not for signal handlers, apart from [`is_open`](Self::is_open).
pub struct Gate<W = ProcessWide> {
    witness: W,
    handled: Handled,
    waiting: Waiting,
}

impl Gate {
    /// A gate that is open for the present moment: for a program that has just built what must be
    /// unique, or has yet to.
    #[must_use]
    pub fn new() -> Self {
        Self::with_witness(ProcessWide)
    }

    constant! {
        /// A gate that is closed until it is opened for the first time: for a program that has to build
        /// something first, and for a `static`.
        #[must_use]
        pub fn closed() -> Self {
            Self::closed_with_witness(ProcessWide)
        }
    }
}

impl<W: Witness> Gate<W> {
    /// As [`new`](Gate::new), with a witness that the caller chooses.
    pub fn with_witness(witness: W) -> Self {
        let gate = Self::closed_with_witness(witness);
        gate.open(gate.mark());
        gate
    }

    constant! {
        /// As [`closed`](Gate::closed), with a witness that the caller chooses.
        pub fn closed_with_witness(witness: W) -> Self {
            Self {
                witness,
                handled: Handled::nothing(),
                waiting: Waiting::new(),
            }
        }
    }

    /// Whether the last change was handled: a few loads while it is open.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open_for().is_some()
    }

    /// Lets the caller in, if the gate is open. The [`Pass`] tells after the work whether there was no
    /// change since.
    ///
    /// # Errors
    ///
    /// [`Stale`] while the gate is closed.
    #[inline]
    pub fn check(&self) -> Result<Pass<W>, Stale>
    where
        W: Clone,
    {
        match self.open_for() {
            Some(mark) => Ok(Pass {
                witness: self.witness.clone(),
                mark,
            }),
            None => Err(Stale::new()),
        }
    }

    /// The present moment, to be given to [`open`](Self::open) when all changes up to it have been
    /// handled. Whatever is built after this call sees what was done before the change, such as the
    /// reseeding of the kernel.
    #[must_use = "the gate is opened for this, once everything was handled"]
    pub fn mark(&self) -> Uniqueness {
        mark_for_build(&self.witness)
    }

    /// Opens the gate, if nothing has changed since `mark`, which was taken from
    /// [`mark`](Self::mark) before the handling. Returns whether it is open.
    ///
    /// If it returns false there was another change, and that is to be handled as well. Whoever is let
    /// in sees everything that was done before this call.
    pub fn open(&self, mark: Uniqueness) -> bool {
        if !is_unchanged(&self.witness, &mark) {
            return false;
        }
        self.handled.set(mark);
        self.waiting.wake();
        self.is_open()
    }

    /// Waits until the gate is open, in any asynchronous runtime. [`check`](Self::check) it then: it
    /// may be closed again.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    ///
    /// ```
    /// # let gate = sysgenid::Gate::new();
    /// # let serve = async {
    /// let pass = loop {
    ///     gate.opened().await;
    ///     if let Ok(pass) = gate.check() {
    ///         break pass;
    ///     }
    /// };
    /// # pass.check()
    /// # };
    /// # let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    /// # assert!(std::pin::pin!(serve).poll(&mut context).is_ready());
    /// ```
    pub async fn opened(&self) {
        let mut place = Place::nowhere(&self.waiting);
        poll_fn(|context| self.poll_opened(&mut place, context)).await;
    }

    fn poll_opened(&self, place: &mut Place<'_>, context: &mut Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        place.take(context.waker());
        // Again: it may have been opened before the place was taken. Whoever opens it after this look
        // finds the place.
        if self.is_open() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The witness that is asked.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.witness
    }

    /// What it is open for.
    #[inline]
    fn open_for(&self) -> Option<Uniqueness> {
        let mark = self.handled.get()?;
        is_current(&self.witness, &mark).then_some(mark)
    }
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl<W: Witness + fmt::Debug> fmt::Debug for Gate<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate")
            .field("witness", &self.witness)
            .field("is_open", &self.is_open())
            .finish_non_exhaustive()
    }
}

/// That a [`Gate`] let the caller in.
#[derive(Clone, Copy, Debug)]
#[must_use = "check it after the work, before anything of it is given away"]
pub struct Pass<W = ProcessWide> {
    witness: W,
    mark: Uniqueness,
}

impl<W: Witness> Pass<W> {
    /// Checks that nothing has changed since the gate let the caller in.
    ///
    /// # Errors
    ///
    /// [`Stale`] if something has. What was done meanwhile is not to be given away then.
    #[inline]
    pub fn check(&self) -> Result<(), Stale> {
        if is_unchanged(&self.witness, &self.mark) {
            Ok(())
        } else {
            Err(Stale::new())
        }
    }
}
